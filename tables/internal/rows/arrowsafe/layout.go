package arrowsafe

import (
	"encoding/binary"
	"fmt"

	"github.com/apache/arrow-go/v18/arrow"
	flatbuffers "github.com/google/flatbuffers/go"

	"github.com/go-partd/partd"
)

const (
	maxWidth       = 16 << 20 // maximum size of a fixed-size value, in bytes
	emptyValueSize = 8        // bytes charged for a value that has no bytes in the message
	offsetSize     = 4        // size of a string's offset, in bytes
	version4       = 3        // format version 4
	version5       = 4        // format version 5, in which unions no longer have bitmaps

	// maximum number of values in an array; limited so that no product in this file, such as maxLength × maxWidth,
	// overflows
	maxLength = 1 << 38
)

// cursor iterates over the lengths and buffers of a batch, depth-first, column by column.
type cursor struct {
	bytes           []byte // the batch's description
	node, nodes     int    // index of the next array, and number of arrays
	buffer, buffers int    // index of the next buffer, and number of buffers
	// index of the next view column's buffer count, and number of such counts
	count, counts int
	// positions in bytes of the lists of arrays, buffers and buffer counts
	nodesAt, buffersAt, variadicAt flatbuffers.UOffsetT
	body                           []byte
	compressed                     bool
	version                        int16
	limit                          int64 // limit on inflated and on charged, in bytes
	referred                       int64 // total size, in bytes, of the body's buffers so far
	inflated                       int64 // decompressed size of the compressed buffers so far, in bytes
	charged                        int64 // bytes counted by charge, for values without bytes in the message
}

func (m *Messages) cursor(batch flatbuffers.Table, version int16, body []byte) (*cursor, error) {
	c := &cursor{bytes: batch.Bytes, body: body, version: version, limit: m.limit, compressed: batch.Offset(batchCompression) != 0}
	var err error
	c.nodesAt, c.nodes, err = vector(batch, batchNodes, 16)
	if err != nil {
		return nil, err
	}
	c.buffersAt, c.buffers, err = vector(batch, batchBuffers, 16)
	if err != nil {
		return nil, err
	}
	c.variadicAt, c.counts, err = vector(batch, batchVariadic, 8)
	return c, err
}

func (c *cursor) int64(pos flatbuffers.UOffsetT) int64 {
	return int64(binary.LittleEndian.Uint64(c.bytes[pos:]))
}

// next moves to the next array, which must have at least minLength values. It returns the array's length.
func (c *cursor) next(minLength int64) (n int64, nulls bool, err error) {
	if c.node == c.nodes {
		return 0, false, fmt.Errorf("%w: it describes %d arrays, but the schema needs more", errMessage, c.nodes)
	}
	pos := c.nodesAt + flatbuffers.UOffsetT(16*c.node)
	c.node++
	n = c.int64(pos)
	if n > maxLength {
		return 0, false, fmt.Errorf("%d values are over the limit of %d: %w", n, int64(maxLength), partd.ErrTooLarge)
	}
	if n < 0 || n < minLength {
		return 0, false, fmt.Errorf("%w: it has an array of %d values, but at least %d are required", errMessage, n, minLength)
	}
	return n, c.int64(pos+8) != 0, nil
}

// nextBuffer moves to the next buffer and returns its decompressed length. The buffer must lie within the body and must
// not overlap other buffers.
func (c *cursor) nextBuffer() (int64, error) {
	if c.buffer == c.buffers {
		return 0, fmt.Errorf("%w: it has %d buffers, but the schema needs more", errMessage, c.buffers)
	}
	pos := c.buffersAt + flatbuffers.UOffsetT(16*c.buffer)
	c.buffer++
	offset, length := c.int64(pos), c.int64(pos+8)
	if length == 0 {
		return 0, nil
	}
	size := int64(len(c.body))
	if offset < 0 || length < 0 || offset > size || length > size-offset {
		return 0, fmt.Errorf("%w: a buffer of %d bytes at offset %d exceeds the body of %d bytes", errMessage, length, offset, size)
	}
	c.referred += length
	if c.referred > size {
		return 0, fmt.Errorf("%w: its buffers share bytes", errMessage)
	}
	if !c.compressed {
		return length, nil
	}
	if length < 8 {
		return 0, fmt.Errorf("%w: a compressed buffer has only %d bytes", errMessage, length)
	}
	inflated := int64(binary.LittleEndian.Uint64(c.body[offset:]))
	if inflated == -1 {
		return length - 8, nil
	}
	if inflated < 0 || inflated > c.limit-c.inflated {
		return 0, fmt.Errorf("decompressing the rows takes %d more bytes, over the limit of %d: send smaller batches: %w", inflated, c.limit, partd.ErrTooLarge)
	}
	c.inflated += inflated
	return inflated, nil
}

// nextBufferOfSize moves to the next buffer, which must have at least the given number of bytes.
func (c *cursor) nextBufferOfSize(bytes int64) error {
	size, err := c.nextBuffer()
	if err == nil && size < bytes {
		err = fmt.Errorf("%w: a buffer has %d bytes, but at least %d are required", errMessage, size, bytes)
	}
	return err
}

// charge counts memory for n values that have no bytes in the message, such as nulls.
func (c *cursor) charge(n int64) error {
	if n < 0 || n > maxLength || n*emptyValueSize > c.limit-c.charged {
		return fmt.Errorf("%d values that have no bytes in the message exceed the limit of %d bytes: send smaller batches: %w", n, c.limit, partd.ErrTooLarge)
	}
	c.charged += n * emptyValueSize
	return nil
}

// lastKnownType is the last type whose Layout has been compared with Arrow's specification. Before raising it, compare
// the newer types.
const lastKnownType = arrow.DECIMAL64

// topColumn is like column, but for a column of a batch, which must have exactly as many values as the batch has rows.
// Otherwise, Arrow's reader would cut it off without an error.
func (c *cursor) topColumn(dt arrow.DataType, rows int64) error {
	if c.node < c.nodes && c.int64(c.nodesAt+flatbuffers.UOffsetT(16*c.node)) > rows {
		return fmt.Errorf("%w: it claims %d rows, but a column has more", errMessage, rows)
	}
	return c.column(dt, rows)
}

// column checks the next array and its children. The array must have the type dt and at least minLength values.
func (c *cursor) column(dt arrow.DataType, minLength int64) error {
	dt = storageType(dt)
	// before version 5, Arrow's loader would expect a bitmap that run-end-encoded arrays lack
	if dt.ID() > lastKnownType || dt.ID() == arrow.RUN_END_ENCODED && c.version < version5 {
		return fmt.Errorf("%w: a column has the unsupported type %s", errMessage, dt)
	}
	variadic, err := c.variadic(dt)
	if err != nil {
		return err
	}
	n, nulls, err := c.next(minLength)
	if err != nil {
		return err
	}
	if c.hasBitmap(dt.ID()) {
		bitmapBytes := int64(0)
		if nulls {
			bitmapBytes = (n + 7) / 8
		}
		if err := c.nextBufferOfSize(bitmapBytes); err != nil {
			return err
		}
	}
	if hasEmptyValues(dt) {
		if err := c.charge(n); err != nil {
			return err
		}
	}
	for i, b := range dt.Layout().Buffers {
		size := int64(0) // minimum size of a buffer of variable size
		switch {
		case i == 0 && b.Kind == arrow.KindBitmap, b.Kind == arrow.KindAlwaysNull: // the bitmap of nulls was checked above
			continue
		case b.Kind == arrow.KindBitmap:
			size = (n + 7) / 8
		case b.Kind == arrow.KindFixedWidth && !hasOffsets(dt.ID()):
			size = n * int64(b.ByteWidth)
		case b.Kind == arrow.KindFixedWidth && n > 0:
			size = (n + 1) * int64(b.ByteWidth)
		}
		if err := c.nextBufferOfSize(size); err != nil {
			return err
		}
	}
	for range variadic {
		if err := c.nextBufferOfSize(0); err != nil {
			return err
		}
	}
	nested, ok := dt.(arrow.NestedType)
	if !ok {
		return nil
	}
	childLength := int64(0) // minimum length of the children
	switch dt := dt.(type) {
	case *arrow.StructType, *arrow.SparseUnionType:
		childLength = n
	case *arrow.FixedSizeListType:
		childLength = n * int64(dt.Len())
	}
	for _, f := range nested.Fields() {
		if err := c.column(f.Type, childLength); err != nil {
			return err
		}
	}
	return nil
}

// hasEmptyValues reports whether an array of type dt can have any number of values without any bytes for them.
func hasEmptyValues(dt arrow.DataType) bool {
	switch dt := dt.(type) {
	case *arrow.NullType, *arrow.RunEndEncodedType:
		return true
	case *arrow.FixedSizeBinaryType:
		return dt.ByteWidth == 0
	case *arrow.FixedSizeListType:
		return dt.Len() == 0
	case *arrow.StructType:
		return dt.NumFields() == 0
	}
	return false
}

// hasOffsets reports whether arrays of a type have an offset for each value, and one more for the end.
func hasOffsets(id arrow.Type) bool {
	return arrow.IsBaseBinary(id) || id == arrow.LIST || id == arrow.LARGE_LIST || id == arrow.MAP
}

// variadic returns the number of data buffers in the next array if dt is a view type, and otherwise 0.
func (c *cursor) variadic(dt arrow.DataType) (int64, error) {
	if _, ok := dt.(arrow.BinaryViewDataType); !ok {
		return 0, nil
	}
	if c.count == c.counts {
		return 0, fmt.Errorf("%w: it has %d buffer counts, but the schema has more view columns", errMessage, c.counts)
	}
	n := c.int64(c.variadicAt + flatbuffers.UOffsetT(8*c.count))
	c.count++
	if n < 0 || n > int64(c.buffers-c.buffer) {
		return 0, fmt.Errorf("%w: a view column claims %d buffers, but the message has %d", errMessage, n, c.buffers)
	}
	return n, nil
}

func (c *cursor) hasBitmap(id arrow.Type) bool {
	switch id {
	case arrow.NULL, arrow.RUN_END_ENCODED:
		return false
	case arrow.DENSE_UNION, arrow.SPARSE_UNION:
		return c.version < version5
	}
	return true
}

func storageType(dt arrow.DataType) arrow.DataType {
	for {
		extension, ok := dt.(arrow.ExtensionType)
		if !ok {
			return dt
		}
		dt = extension.StorageType()
	}
}

// width returns the size in bytes of each value of a type, even of nulls, or 8 if the type's size is small or varies.
func width(dt arrow.DataType) int64 {
	switch dt := storageType(dt).(type) {
	case *arrow.FixedSizeBinaryType:
		return int64(dt.ByteWidth)
	case *arrow.FixedSizeListType:
		return min(max(1, width(dt.Elem()))*int64(dt.Len()), maxWidth+1)
	case *arrow.StructType:
		var total int64
		for _, f := range dt.Fields() {
			total += width(f.Type)
		}
		return min(total, maxWidth+1)
	}
	return 8
}
