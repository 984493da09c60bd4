package schema

import (
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/apache/arrow-go/v18/parquet"
	"github.com/apache/arrow-go/v18/parquet/compress"
	"github.com/apache/arrow-go/v18/parquet/file"
	"github.com/apache/arrow-go/v18/parquet/metadata"
	pqschema "github.com/apache/arrow-go/v18/parquet/schema"
	"github.com/klauspost/compress/zstd"

	"github.com/go-partd/partd/tables/internal/rows/arrowsafe"
)

// OpenParquet opens an untrusted Parquet file after checking its footer. It reads columns with unsupported logical
// types in their physical types.
func OpenParquet(in parquet.ReaderAtSeeker, options ...file.ReadOption) (*file.Reader, error) {
	footer, size, err := arrowsafe.Footer(in)
	if err != nil {
		return nil, err
	}
	if footer != nil {
		fileMetadata, err := metadata.NewFileMetaData(footer, nil)
		if err == nil {
			fileMetadata.Schema, err = withReadableTypes(fileMetadata.Schema)
		}
		if err != nil {
			return nil, fmt.Errorf("parquet: could not read footer: %w", err)
		}
		fileMetadata.SetSourceFileSize(size)
		options = append(options, file.WithMetadata(fileMetadata))
	}
	return file.NewParquetReader(in, options...)
}

// MaxStatsBytes limits the average size of values in a column with statistics, except in a table's files. While a row
// group is written, the library keeps several copies of its lowest and highest value.
const MaxStatsBytes = 64 << 10

// CheckEncoding returns an error if arrow-go 18.8 cannot decode a column chunk.
func CheckEncoding(chunk *metadata.ColumnChunkMetaData) error {
	if chunk.Type() != parquet.Types.FixedLenByteArray || !slices.Contains(chunk.Encodings(), parquet.Encodings.DeltaByteArray) {
		return nil
	}
	return fmt.Errorf("column %q: DELTA_BYTE_ARRAY is not supported for values of fixed size: write the file with another encoding, such withType PLAIN", chunk.PathInSchema())
}

func init() {
	for _, name := range []compress.Compression{compress.Codecs.Snappy, compress.Codecs.Gzip, compress.Codecs.Brotli} {
		if c, err := compress.GetCodec(name); err == nil {
			compress.RegisterCodec(name, codec{c, c.(compress.StreamingCodec), name == compress.Codecs.Snappy})
		}
	}
	zstdCodec, _ := compress.GetCodec(compress.Codecs.Zstd) // cannot fail, because the library has it
	decoder, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(0), zstd.WithDecodeAllCapLimit(true))
	if err == nil {
		compress.RegisterCodec(compress.Codecs.Zstd, boundedZstd{zstdCodec, zstdCodec.(compress.StreamingCodec), decoder})
	}
}

// boundedZstd decompresses at most as many bytes as fit into the destination. The library's codec would allocate any
// number of bytes.
type boundedZstd struct {
	compress.Codec
	compress.StreamingCodec
	decoder *zstd.Decoder
}

func (c boundedZstd) DecodeWithError(dst, src []byte) ([]byte, error) {
	return c.decoder.DecodeAll(src, dst[:0])
}

// codec decompresses an empty input to an empty output, because some writers mark a page of nulls as compressed but
// leave its values empty.
type codec struct {
	compress.Codec
	compress.StreamingCodec
	// whether compressed data starts with the length of the data; the library would allocate this many bytes
	hasLength bool
}

func (c codec) DecodeWithError(dst, src []byte) ([]byte, error) {
	if len(src) == 0 {
		return dst[:0], nil
	}
	if n, _ := binary.Uvarint(src); c.hasLength && n > uint64(len(dst)) {
		return nil, fmt.Errorf("the page has %d bytes instead of %d: the file is damaged", n, len(dst))
	}
	return compress.Decode(c.Codec, dst, src)
}

// withReadableTypes returns a Parquet file's schema in a form that arrow-go reads correctly: JSON and enums are
// strings, INT96 is bytes, and every list has three levels. By the format's backward-compatibility rules, a repeated
// group whose only field is repeated is itself the element; arrow-go would take that field for the element. A required
// group around the element prevents this without changing the columns or their levels.
func withReadableTypes(s *pqschema.Schema) (*pqschema.Schema, error) {
	root, err := readableNode(s.Root())
	if err != nil || root == pqschema.Node(s.Root()) {
		return s, err
	}
	return pqschema.NewSchema(root.(*pqschema.GroupNode)), nil
}

// readableNode applies withReadableTypes to one node. It returns n if nothing changes.
func readableNode(n pqschema.Node) (pqschema.Node, error) {
	group, ok := n.(*pqschema.GroupNode)
	if !ok {
		return readableLeaf(n.(*pqschema.PrimitiveNode))
	}
	fields, changed := make(pqschema.FieldList, group.NumFields()), false
	for i := range fields {
		var err error
		fields[i], err = readableNode(group.Field(i))
		if err != nil {
			return nil, err
		}
		changed = changed || fields[i] != group.Field(i)
	}
	if len(fields) == 1 && isList(group) && wrapsRepeatedField(fields[0]) {
		inner := fields[0].(*pqschema.GroupNode)
		element, err := groupNode(inner, "element", parquet.Repetitions.Required, pqschema.FieldList{inner.Field(0)})
		if err != nil {
			return nil, err
		}
		fields[0], err = pqschema.NewGroupNode("list", parquet.Repetitions.Repeated, pqschema.FieldList{element}, -1)
		if err != nil {
			return nil, err
		}
		changed = true
	}
	if !changed {
		return n, nil
	}
	return groupNode(group, group.Name(), group.RepetitionType(), fields)
}

func readableLeaf(n *pqschema.PrimitiveNode) (pqschema.Node, error) {
	withType := func(logical pqschema.LogicalType, physical parquet.Type, size int) (pqschema.Node, error) {
		return pqschema.NewPrimitiveNodeLogical(n.Name(), n.RepetitionType(), logical, physical, size, n.FieldID())
	}
	switch n.LogicalType().(type) {
	case pqschema.JSONLogicalType, pqschema.EnumLogicalType:
		return withType(pqschema.StringLogicalType{}, parquet.Types.ByteArray, 0)
	// INTERVAL marks INT96 columns below, so remove it from real intervals, which arrow-go reads as bytes anyway.
	case pqschema.IntervalLogicalType:
		return withType(pqschema.NoLogicalType{}, parquet.Types.FixedLenByteArray, int96Size)
	}
	if n.PhysicalType() == parquet.Types.Int96 {
		return withType(pqschema.IntervalLogicalType{}, parquet.Types.FixedLenByteArray, int96Size)
	}
	return n, nil
}

// ReadableByID reports whether a reader that finds fields by ID and reads only three-level lists would find all of a
// field's values.
func ReadableByID(n pqschema.Node) bool {
	group, ok := n.(*pqschema.GroupNode)
	repeats := n.RepetitionType() == parquet.Repetitions.Repeated
	if !ok || repeats || n.FieldID() < 0 {
		return !repeats && n.FieldID() >= 0
	}
	fields := group
	if list := isList(group); list || group.LogicalType().Equals(pqschema.MapLogicalType{}) {
		fields, ok = group.Field(0).(*pqschema.GroupNode)
		if !ok || list && (fields.NumFields() != 1 || fields.Name() == "array" || fields.Name() == group.Name()+"_tuple") {
			return false
		}
	}
	for i := range fields.NumFields() {
		if !ReadableByID(fields.Field(i)) {
			return false
		}
	}
	return true
}

func isList(n pqschema.Node) bool { return n.LogicalType().Equals(pqschema.NewListLogicalType()) }

// wrapsRepeatedField reports whether n is a repeated group whose only field is repeated.
func wrapsRepeatedField(n pqschema.Node) bool {
	group, ok := n.(*pqschema.GroupNode)
	return ok && group.NumFields() == 1 && group.RepetitionType() == parquet.Repetitions.Repeated &&
		group.Field(0).RepetitionType() == parquet.Repetitions.Repeated
}

func groupNode(n *pqschema.GroupNode, name string, r parquet.Repetition, fields pqschema.FieldList) (*pqschema.GroupNode, error) {
	if n.LogicalType().IsNone() {
		return pqschema.NewGroupNode(name, r, fields, n.FieldID())
	}
	return pqschema.NewGroupNodeLogical(name, r, fields, n.LogicalType(), n.FieldID())
}
