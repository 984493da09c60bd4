package arrowsafe

import (
	"encoding/binary"
	"errors"
	"fmt"

	flatbuffers "github.com/google/flatbuffers/go"
)

// Bounds of a schema's description. Arrow's reader believes the numbers in it:
// it allocates for as many columns as one says there are.
const (
	maxFields = 1 << 16 // with the fields within them
	maxNested = 64
)

var errSchemaMessage = errors.New("the description of the schema is damaged")

// Slots of the tables in Arrow's format/Message.fbs and format/Schema.fbs.
const (
	messageHead    = 8 // bytes: the marker and the length
	messageType    = 6
	messageHeader  = 8
	schemaFields   = 6
	schemaMetadata = 8
	fieldChildren  = 14
	fieldMetadata  = 16

	typeSchema = 1
)

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
	description := message[messageHead:]
	root := flatbuffers.Table{Bytes: description, Pos: flatbuffers.GetUOffsetT(description)}
	at := flatbuffers.UOffsetT(root.Offset(messageHeader))
	if at == 0 || root.GetByteSlot(messageType, 0) != typeSchema {
		return nil, fmt.Errorf("%w: it is no schema", errSchemaMessage)
	}
	var schema flatbuffers.Table
	root.Union(&schema, at)
	fields := 0
	return message, checkFields(schema, schemaFields, schemaMetadata, 0, &fields)
}

func checkFields(t flatbuffers.Table, children, metadata flatbuffers.VOffsetT, depth int, fields *int) error {
	if depth > maxNested {
		return fmt.Errorf("%w: fields %d deep", errSchemaMessage, depth)
	}
	if _, _, err := vector(t, metadata); err != nil {
		return err
	}
	start, n, err := vector(t, children)
	if err != nil {
		return err
	}
	if *fields += n; *fields > maxFields {
		return fmt.Errorf("%w: more than %d fields", errSchemaMessage, maxFields)
	}
	for i := range n {
		child := flatbuffers.Table{Bytes: t.Bytes, Pos: t.Indirect(start + flatbuffers.UOffsetT(4*i))}
		if err := checkFields(child, fieldChildren, fieldMetadata, depth+1, fields); err != nil {
			return err
		}
	}
	return nil
}

// vector returns where a vector of offsets begins, and how many they are.
func vector(t flatbuffers.Table, slot flatbuffers.VOffsetT) (flatbuffers.UOffsetT, int, error) {
	at := flatbuffers.UOffsetT(t.Offset(slot))
	if at == 0 {
		return 0, 0, nil
	}
	start, n := t.Vector(at), t.VectorLen(at)
	if int64(start)+4*int64(n) > int64(len(t.Bytes)) {
		return 0, 0, fmt.Errorf("%w: %d entries in %d bytes", errSchemaMessage, n, len(t.Bytes))
	}
	return start, n, nil
}
