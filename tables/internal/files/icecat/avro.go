package icecat

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
)

// Budget limits the total size of several Avro files.
type Budget struct {
	Entries, Bytes int64 // limits; Bytes counts uncompressed bytes
	entries, bytes int64 // sums for the files so far
}

func (b *Budget) check() error {
	if b.entries <= b.Entries && b.bytes <= b.Bytes {
		return nil
	}
	return fmt.Errorf("the commit's files exceed the limit of %d entries or %d uncompressed bytes: commit fewer files at a time", b.Entries, b.Bytes)
}

// Limits for other engines' Avro files. Bytes are counted uncompressed.
const (
	maxManifests     = 10_000 // manifests in a manifest list
	maxListBytes     = 64 << 20
	maxManifestFiles = 1_000_000 // files listed in all new manifests of a commit
	maxManifestBytes = 1 << 30
)

// ListBudget returns the budget for a manifest list.
func ListBudget() *Budget { return &Budget{Entries: maxManifests, Bytes: maxListBytes} }

// ManifestBudget returns the budget for all new manifests of a commit.
func ManifestBudget() *Budget { return &Budget{Entries: maxManifestFiles, Bytes: maxManifestBytes} }

// AvroKind is a kind of Avro file, identified by a field that all its entries have.
type AvroKind string

// Iceberg's kinds of Avro files.
const (
	ListKind     AvroKind = "manifest_path"
	ManifestKind AvroKind = "data_file"
)

// matches reports whether the entries have the kind's field. In a manifest, this field must also be a record, as
// Iceberg's library requires.
func (k AvroKind) matches(s *avro.Schema) bool {
	return slices.ContainsFunc(s.Root().Fields, func(f avro.SchemaField) bool {
		return f.Name == string(k) && (k != ManifestKind || f.Type.Type == "record")
	})
}

// countAvro adds an Avro file to a budget, and returns an error if the budget is then exceeded. isNormal is false for a
// manifest that normalize may change.
func countAvro(ctx context.Context, file io.Reader, size int64, kind AvroKind, budget *Budget) (isNormal bool, err error) {
	budget.bytes += size // countingCodec adds only decompressed blocks; size covers the parts that are not compressed
	if err := budget.check(); err != nil {
		return false, err
	}
	var writerSchema *avro.Schema
	r, err := ocf.NewReader(file,
		ocf.WithCodec(countingCodec{ocf.DeflateCodec(-1), budget}),
		ocf.WithCodec(countingCodec{ocf.SnappyCodec(), budget}),
		ocf.WithCodec(countingCodec{ocf.MustZstdCodec(nil, nil), budget}),
		ocf.WithReaderSchemaFunc(func(r *ocf.Reader) (*avro.Schema, error) {
			writerSchema = r.Schema()
			root, fields := writerSchema.Root(), ""
			if kind == ManifestKind && kind.matches(writerSchema) {
				i := slices.IndexFunc(root.Fields, func(f avro.SchemaField) bool { return f.Name == string(kind) })
				fields = fmt.Sprintf(normalizedFields, kind, root.Fields[i].Type.Name, root.Fields[i].Type.Namespace)
			}
			return avro.Parse(fmt.Sprintf(`{"type": "record", "name": %q, "namespace": %q, "fields": [%s]}`, root.Name, root.Namespace, fields))
		}))
	if err != nil {
		return false, err
	}
	defer r.Close() //nolint:errcheck // opened only for reading
	if !kind.matches(writerSchema) {
		return false, fmt.Errorf("the file's entries lack the field %s", kind)
	}
	for isNormal = !hasNanoseconds(r.Metadata()); ; {
		var entry normalizedEntry
		err := cmp.Or(ctx.Err(), r.Decode(&entry))
		if err == io.EOF {
			return isNormal, nil
		}
		isNormal = isNormal && entry.isNormal()
		budget.entries++
		err = cmp.Or(err, budget.check())
		if err != nil {
			return false, err
		}
	}
}

// countingCodec adds the decompressed bytes to a budget.
type countingCodec struct {
	ocf.Codec
	budget *Budget
}

func (c countingCodec) DecompressBounded(src []byte, limit int64) ([]byte, error) {
	b, err := c.Codec.(ocf.BoundedDecompressor).DecompressBounded(src, limit)
	c.budget.bytes += int64(len(b))
	return b, cmp.Or(err, c.budget.check())
}
