package arrowsafe

import (
	"encoding/binary"
	"errors"
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
)

// Bounds of a description. Arrow's reader believes the numbers in it: it allocates
// for as many columns and notes as one says there are, and copies each text as
// often as something refers to it.
const (
	maxDescription = 64 << 20 // bytes
	maxFields      = 1 << 16  // with the fields within them
	maxNested      = 64
)

var (
	errMessage       = errors.New("the Arrow message is damaged")
	errSchemaMessage = errors.New("the description of the schema is damaged")
)

// Slots of the tables in Arrow's format/Message.fbs and format/Schema.fbs.
const (
	messageHead     = 8 // bytes before a message in a stream: the marker and the length
	messageVersion  = 4
	messageType     = 6
	messageHeader   = 8
	messageBody     = 10
	messageMetadata = 12

	schemaFields   = 6
	schemaMetadata = 8
	schemaFeatures = 10

	fieldName       = 4
	fieldTypeID     = 8
	fieldType       = 10
	fieldDictionary = 12
	fieldChildren   = 14
	fieldMetadata   = 16
	firstSlot       = 4 // of a dictionary's id, and of a note's key
	secondSlot      = 6 // of a note's value, a time's zone and a union's ids

	batchLength      = 4
	batchNodes       = 6
	batchBuffers     = 8
	batchCompression = 10
	batchVariadic    = 12
	dictionaryData   = 6
	dictionaryDelta  = 8

	typeSchema     = 1
	typeDictionary = 2
	typeBatch      = 3

	typeTimestamp = 10
	typeUnion     = 14
)

type description struct {
	kind    byte
	version int16
	body    int64 // bytes, as it says
	header  flatbuffers.Table

	texts  int64 // bytes of texts that may still be referred to
	fields int   // seen so far
}

// field is a field of a schema, as far as a reader of batches needs it.
type field struct {
	dictionary int64 // its id, if it has one
	encoded    bool
	children   []field
}

// describe reads the beginning of a description. What leads out of it panics.
func describe(message []byte) (*description, error) {
	if len(message) > maxDescription {
		return nil, fmt.Errorf("%w: its description has %d bytes", errMessage, len(message))
	}
	root := flatbuffers.Table{Bytes: message, Pos: flatbuffers.GetUOffsetT(message)}
	at := flatbuffers.UOffsetT(root.Offset(messageHeader))
	if at == 0 {
		return nil, fmt.Errorf("%w: it has no content", errMessage)
	}
	d := &description{
		kind:    root.GetByteSlot(messageType, 0),
		version: root.GetInt16Slot(messageVersion, 0),
		body:    root.GetInt64Slot(messageBody, 0),
		texts:   int64(len(message)),
	}
	root.Union(&d.header, at)
	return d, d.notes(root, messageMetadata)
}

// SchemaMessage returns the message of a schema from the beginning of a stream. It
// holds as many fields as it says.
func SchemaMessage(stream []byte) (message []byte, err error) {
	defer func() {
		if p := recover(); p != nil { // an offset leads out of the message
			err = fmt.Errorf("%w: %v", errSchemaMessage, p)
		}
	}()
	if len(stream) < messageHead || string(stream[:4]) != "\xff\xff\xff\xff" {
		return nil, errSchemaMessage
	}
	message = stream[:messageHead+int(binary.LittleEndian.Uint32(stream[4:]))]
	d, err := describe(message[messageHead:])
	if err == nil {
		_, err = d.schema()
	}
	return message, err
}

// schema returns the fields of a schema's description.
func (d *description) schema() ([]field, error) {
	if d.kind != typeSchema {
		return nil, fmt.Errorf("%w: it is no schema", errSchemaMessage)
	}
	if d.body != 0 {
		return nil, fmt.Errorf("%w: it says that %d bytes follow", errSchemaMessage, d.body)
	}
	if _, _, err := vector(d.header, schemaFeatures, 8); err != nil {
		return nil, err
	}
	if err := d.notes(d.header, schemaMetadata); err != nil {
		return nil, err
	}
	return d.fieldsOf(d.header, schemaFields, 0)
}

func (d *description) fieldsOf(t flatbuffers.Table, slot flatbuffers.VOffsetT, depth int) ([]field, error) {
	if depth > maxNested {
		return nil, fmt.Errorf("%w: fields %d deep", errSchemaMessage, depth)
	}
	start, n, err := vector(t, slot, 4)
	if err != nil {
		return nil, err
	}
	if d.fields += n; d.fields > maxFields {
		return nil, fmt.Errorf("%w: more than %d fields", errSchemaMessage, maxFields)
	}
	all := make([]field, n)
	for i := range all {
		if err := d.field(within(t, start, i), &all[i], depth); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (d *description) field(t flatbuffers.Table, f *field, depth int) error {
	if err := d.text(t, fieldName); err != nil {
		return err
	}
	if at := flatbuffers.UOffsetT(t.Offset(fieldType)); at != 0 {
		var of flatbuffers.Table
		t.Union(&of, at)
		var err error
		switch t.GetByteSlot(fieldTypeID, 0) {
		case typeTimestamp:
			err = d.text(of, secondSlot)
		case typeUnion:
			_, _, err = vector(of, secondSlot, 4)
		}
		if err != nil {
			return err
		}
	}
	if at := flatbuffers.UOffsetT(t.Offset(fieldDictionary)); at != 0 {
		encoding := flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(at + t.Pos)}
		f.encoded, f.dictionary = true, encoding.GetInt64Slot(firstSlot, 0)
	}
	if err := d.notes(t, fieldMetadata); err != nil {
		return err
	}
	var err error
	f.children, err = d.fieldsOf(t, fieldChildren, depth+1)
	return err
}

// notes looks at keys and values.
func (d *description) notes(t flatbuffers.Table, slot flatbuffers.VOffsetT) error {
	start, n, err := vector(t, slot, 4)
	for i := 0; err == nil && i < n; i++ {
		note := within(t, start, i)
		if err = d.text(note, firstSlot); err == nil {
			err = d.text(note, secondSlot)
		}
	}
	return err
}

// text looks at a text. No writer refers to one twice, and so all of them together
// are no longer than the description.
func (d *description) text(t flatbuffers.Table, slot flatbuffers.VOffsetT) error {
	_, n, err := vector(t, slot, 1)
	if d.texts -= int64(n); err == nil && d.texts < 0 {
		err = fmt.Errorf("%w: its texts are longer than all of it", errMessage)
	}
	return err
}

// vector returns where a vector begins whose elements have so many bytes, and how
// many they are.
func vector(t flatbuffers.Table, slot flatbuffers.VOffsetT, size int64) (flatbuffers.UOffsetT, int, error) {
	at := flatbuffers.UOffsetT(t.Offset(slot))
	if at == 0 {
		return 0, 0, nil
	}
	start, n := t.Vector(at), t.VectorLen(at)
	if n < 0 || int64(start)+size*int64(n) > int64(len(t.Bytes)) {
		return 0, 0, fmt.Errorf("%w: %d entries in %d bytes", errMessage, n, len(t.Bytes))
	}
	return start, n, nil
}

// within returns the table to which element i of a vector of offsets refers.
func within(t flatbuffers.Table, start flatbuffers.UOffsetT, i int) flatbuffers.Table {
	return flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(start + flatbuffers.UOffsetT(4*i))}
}
