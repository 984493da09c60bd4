package arrowsafe

import (
	"bytes"
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/go-partd/partd"
)

// Messages checks a stream's messages, in order. A message must be checked before Arrow's reader gets it, because the
// reader allocates as much memory as the message claims.
type Messages struct {
	limit           int64 // maximum size of a message's rows, and maximum total size of the dictionaries, in bytes
	schema          *arrow.Schema
	valueTypes      map[int64]arrow.DataType // value types of dictionaries, by ID
	dictionarySizes map[int64]int64          // sizes of dictionaries in bytes, by ID
	dictionaryBytes int64                    // sum of dictionarySizes
}

// NewMessages returns a Messages. A message's rows may use limit bytes of memory, and all dictionaries together may use
// another limit bytes.
func NewMessages(limit int64) *Messages {
	return &Messages{limit: limit, valueTypes: map[int64]arrow.DataType{}, dictionarySizes: map[int64]int64{}}
}

// Check checks the next message. head is its metadata, which Flight calls data_header.
func (m *Messages) Check(head, body []byte) (err error) {
	defer func() {
		if p := recover(); p != nil { // an offset was outside the message
			err = fmt.Errorf("%w: %v", errMessage, p)
		}
	}()
	d, err := describe(head)
	switch {
	case err != nil:
		return err
	case (d.kind == typeSchema) != (m.schema == nil):
		return fmt.Errorf("%w: a stream must contain exactly one schema, at its beginning", errMessage)
	}
	switch d.kind {
	case typeSchema:
		return m.readSchema(d, head)
	case typeDictionary:
		return m.checkDictionary(d, body)
	case typeBatch:
		c, err := m.cursor(d.header, d.version, body)
		if err != nil {
			return err
		}
		rows := d.header.GetInt64Slot(batchLength, 0)
		for _, f := range m.schema.Fields() {
			if err := c.topColumn(f.Type, rows); err != nil {
				return fmt.Errorf("column %q: %w", f.Name, err)
			}
		}
		if m.schema.NumFields() == 0 {
			err = c.charge(rows)
		}
		return err
	}
	return fmt.Errorf("%w: it has the unknown type %d", errMessage, d.kind)
}

func (m *Messages) readSchema(d *description, head []byte) error {
	fields, err := d.schema()
	if err != nil {
		return err
	}
	stream := append([]byte{0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, head...)
	binary.LittleEndian.PutUint32(stream[4:], uint32(len(head)))
	r, err := ipc.NewReader(bytes.NewReader(stream))
	if err != nil {
		return fmt.Errorf("%w: %w", errSchemaMessage, err)
	}
	defer r.Release()
	m.schema = r.Schema()
	for i, f := range m.schema.Fields() {
		if err := m.recordTypes(f, fields[i]); err != nil {
			return fmt.Errorf("column %q: %w", f.Name, err)
		}
	}
	return nil
}

// recordTypes records the types of a field's dictionaries. It rejects types whose values are too large.
func (m *Messages) recordTypes(f arrow.Field, described field) error {
	dt := storageType(f.Type)
	if described.encoded {
		encoded, ok := dt.(*arrow.DictionaryType)
		if !ok {
			return fmt.Errorf("%w: it declares a dictionary, but its type is %v", errSchemaMessage, dt)
		}
		dt = storageType(encoded.ValueType)
		m.valueTypes[described.dictionary] = dt
	}
	if w := width(dt); w > maxWidth {
		return fmt.Errorf("a value of %v takes more than %d bytes: %w", dt, maxWidth, partd.ErrTooLarge)
	}
	if d, ok := dt.(arrow.DecimalType); ok && (d.GetPrecision() < 1 || d.GetPrecision() > maxDigits(d) || max(d.GetScale(), -d.GetScale()) > maxDigits(d)) {
		return fmt.Errorf("%w: a decimal of %d digits, %d of them after the decimal point", errSchemaMessage, d.GetPrecision(), d.GetScale())
	}
	nested, ok := dt.(arrow.NestedType)
	if !ok {
		return nil
	}
	children := nested.Fields()
	if len(children) != len(described.children) {
		return fmt.Errorf("%w: %v with %d fields", errSchemaMessage, dt, len(described.children))
	}
	for i, child := range children {
		if err := m.recordTypes(child, described.children[i]); err != nil {
			return err
		}
	}
	return nil
}

// maxDigits returns the number of digits that a decimal type can hold. It also limits the scale, because Arrow's
// library has no larger powers of ten.
func maxDigits(d arrow.DecimalType) int32 {
	bits := d.(arrow.FixedWidthDataType).BitWidth()
	return int32((bits - 1) * 30103 / 100_000) // log10 2 = 0.30103
}

// checkDictionary checks a dictionary's values. They count against the limit until a dictionary with the same ID
// replaces it.
func (m *Messages) checkDictionary(d *description, body []byte) error {
	id := d.header.GetInt64Slot(firstSlot, 0)
	dt, ok := m.valueTypes[id]
	pos := flatbuffers.UOffsetT(d.header.Offset(dictionaryData))
	if !ok || pos == 0 {
		return fmt.Errorf("%w: no column has the dictionary %d", errMessage, id)
	}
	batch := flatbuffers.Table{Bytes: d.header.Bytes, Pos: d.header.Indirect(pos + d.header.Pos)}
	c, err := m.cursor(batch, d.version, body)
	if err != nil {
		return err
	}
	if err := c.topColumn(dt, batch.GetInt64Slot(batchLength, 0)); err != nil {
		return fmt.Errorf("dictionary %d: %w", id, err)
	}
	size := c.inflated + int64(len(body))
	if !d.header.GetBoolSlot(dictionaryDelta, false) {
		m.dictionaryBytes -= m.dictionarySizes[id]
		m.dictionarySizes[id] = 0
	}
	m.dictionarySizes[id] += size
	m.dictionaryBytes += size
	if m.dictionaryBytes > m.limit {
		return fmt.Errorf("the dictionaries take %d bytes, over the limit of %d: %w", m.dictionaryBytes, m.limit, partd.ErrTooLarge)
	}
	return nil
}
