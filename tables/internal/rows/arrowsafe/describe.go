package arrowsafe

import (
	"encoding/binary"
	"errors"
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
)

// Limits of a message's description, which is the message's metadata as a FlatBuffer. Without these limits, Arrow's
// reader would allocate as many fields and metadata entries as the description claims. The reader also copies a string
// for each reference to the string.
const (
	maxDescription = 64 << 20 // maximum size in bytes
	maxFields      = 1 << 16  // maximum number of fields, including nested fields
	maxNested      = 64       // maximum number of levels of nested fields
)

var (
	errMessage       = errors.New("the Arrow message is damaged")
	errSchemaMessage = errors.New("the description of the schema is damaged")
)

// Slots of fields in the FlatBuffers tables of Arrow's format/Message.fbs and format/Schema.fbs.
const (
	messageHead     = 8 // size in bytes of the marker and length before a message in a stream
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
	firstSlot       = 4 // a dictionary's ID, or a metadata key
	secondSlot      = 6 // a metadata value, a timestamp's time zone, or a union's type IDs

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

// description is the description of a message. All of it is parsed, except the content of header.
type description struct {
	kind    byte
	version int16
	body    int64 // size of the message's body in bytes, as claimed
	header  flatbuffers.Table

	textBytesLeft int64 // total length, in bytes, of the strings that checkText still allows
	fields        int   // number of fields seen so far
}

// field describes how batches encode a field of a schema.
type field struct {
	dictionary int64 // ID of the dictionary, if any
	encoded    bool  // whether the values are in a dictionary
	children   []field
}

// describe parses the fixed part of a message's description. It panics if an offset is outside the description.
func describe(message []byte) (*description, error) {
	if len(message) > maxDescription {
		return nil, fmt.Errorf("%w: its description has %d bytes", errMessage, len(message))
	}
	root := flatbuffers.Table{Bytes: message, Pos: flatbuffers.GetUOffsetT(message)}
	pos := flatbuffers.UOffsetT(root.Offset(messageHeader))
	if pos == 0 {
		return nil, fmt.Errorf("%w: it has no content", errMessage)
	}
	d := &description{
		kind:          root.GetByteSlot(messageType, 0),
		version:       root.GetInt16Slot(messageVersion, 0),
		body:          root.GetInt64Slot(messageBody, 0),
		textBytesLeft: int64(len(message)),
	}
	if d.version < version4 {
		return nil, fmt.Errorf("the Arrow message has version V%d of the format, and only V4 (of Arrow 0.8) and later are supported: convert it with a program that reads it, for example to Parquet", d.version+1)
	}
	root.Union(&d.header, pos)
	return d, d.checkMetadata(root, messageMetadata)
}

// SchemaMessage returns the schema message at the beginning of a stream, after checking it against the limits above.
func SchemaMessage(stream []byte) (message []byte, err error) {
	defer func() {
		if p := recover(); p != nil { // an offset was outside the message
			err = fmt.Errorf("%w: %v", errSchemaMessage, p)
		}
	}()
	if len(stream) < messageHead || string(stream[:4]) != "\xff\xff\xff\xff" {
		return nil, errSchemaMessage
	}
	message = stream[:messageHead+int(binary.LittleEndian.Uint32(stream[4:]))]
	d, err := describe(message[messageHead:])
	if err != nil {
		return message, err
	}
	_, err = d.schema()
	return message, err
}

func (d *description) schema() ([]field, error) {
	if d.kind != typeSchema {
		return nil, fmt.Errorf("%w: it is not a schema message", errSchemaMessage)
	}
	if d.body != 0 {
		return nil, fmt.Errorf("%w: it claims a body of %d bytes", errSchemaMessage, d.body)
	}
	if _, _, err := vector(d.header, schemaFeatures, 8); err != nil {
		return nil, err
	}
	if err := d.checkMetadata(d.header, schemaMetadata); err != nil {
		return nil, err
	}
	return d.readFields(d.header, schemaFields, 0)
}

func (d *description) readFields(t flatbuffers.Table, slot flatbuffers.VOffsetT, depth int) ([]field, error) {
	if depth > maxNested {
		return nil, fmt.Errorf("%w: fields are nested %d levels deep", errSchemaMessage, depth)
	}
	start, n, err := vector(t, slot, 4)
	if err != nil {
		return nil, err
	}
	d.fields += n
	if d.fields > maxFields {
		return nil, fmt.Errorf("%w: more than %d fields", errSchemaMessage, maxFields)
	}
	fields := make([]field, n)
	for i := range fields {
		if err := d.readField(tableAt(t, start, i), &fields[i], depth); err != nil {
			return nil, err
		}
	}
	return fields, nil
}

func (d *description) readField(t flatbuffers.Table, f *field, depth int) error {
	if err := d.checkText(t, fieldName); err != nil {
		return err
	}
	if pos := flatbuffers.UOffsetT(t.Offset(fieldType)); pos != 0 {
		var typeTable flatbuffers.Table
		t.Union(&typeTable, pos)
		var err error
		switch t.GetByteSlot(fieldTypeID, 0) {
		case typeTimestamp:
			err = d.checkText(typeTable, secondSlot)
		case typeUnion:
			_, _, err = vector(typeTable, secondSlot, 4)
		}
		if err != nil {
			return err
		}
	}
	if pos := flatbuffers.UOffsetT(t.Offset(fieldDictionary)); pos != 0 {
		encoding := flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(pos + t.Pos)}
		f.encoded, f.dictionary = true, encoding.GetInt64Slot(firstSlot, 0)
	}
	if err := d.checkMetadata(t, fieldMetadata); err != nil {
		return err
	}
	var err error
	f.children, err = d.readFields(t, fieldChildren, depth+1)
	return err
}

func (d *description) checkMetadata(t flatbuffers.Table, slot flatbuffers.VOffsetT) error {
	start, n, err := vector(t, slot, 4)
	for i := 0; err == nil && i < n; i++ {
		pair := tableAt(t, start, i)
		err = d.checkText(pair, firstSlot)
		if err == nil {
			err = d.checkText(pair, secondSlot)
		}
	}
	return err
}

// checkText checks the string in a slot. It fails if all strings so far are, in total, longer than the description;
// this is possible only if fields share a string.
func (d *description) checkText(t flatbuffers.Table, slot flatbuffers.VOffsetT) error {
	_, n, err := vector(t, slot, 1)
	d.textBytesLeft -= int64(n)
	if err == nil && d.textBytesLeft < 0 {
		err = fmt.Errorf("%w: its strings are longer than the whole description", errMessage)
	}
	return err
}

// vector returns the position and length of the vector in a slot, whose elements have size bytes each.
func vector(t flatbuffers.Table, slot flatbuffers.VOffsetT, size int64) (flatbuffers.UOffsetT, int, error) {
	pos := flatbuffers.UOffsetT(t.Offset(slot))
	if pos == 0 {
		return 0, 0, nil
	}
	start, n := t.Vector(pos), t.VectorLen(pos)
	if n < 0 || int64(start)+size*int64(n) > int64(len(t.Bytes)) {
		return 0, 0, fmt.Errorf("%w: it claims %d entries in %d bytes", errMessage, n, len(t.Bytes))
	}
	return start, n, nil
}

// tableAt returns the table to which element i of the vector at start refers.
func tableAt(t flatbuffers.Table, start flatbuffers.UOffsetT, i int) flatbuffers.Table {
	return flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(start + flatbuffers.UOffsetT(4*i))}
}
