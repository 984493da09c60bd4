package icecat

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"slices"

	"github.com/apache/iceberg-go"
	"github.com/twmb/avro"
	"github.com/twmb/avro/ocf"
	"golang.org/x/sync/errgroup"

	"github.com/go-partd/partd/tables/internal/rows/parallel"
)

// Tally counts a manifest's files and rows by the status of the entries.
type Tally struct {
	files, rows [3]int64 // indexed by iceberg.ManifestEntryStatus
}

// Add counts an entry of the manifest.
func (t *Tally) Add(e iceberg.ManifestEntry) {
	t.files[e.Status()]++
	t.rows[e.Status()] += e.DataFile().Count()
}

// claimsOf returns the tally that the manifest list claims for a manifest. -1 means that the list omits a number.
func claimsOf(m iceberg.ManifestFile) (t Tally) {
	t.files[iceberg.EntryStatusEXISTING], t.rows[iceberg.EntryStatusEXISTING] = int64(m.ExistingDataFiles()), m.ExistingRows()
	t.files[iceberg.EntryStatusADDED], t.rows[iceberg.EntryStatusADDED] = int64(m.AddedDataFiles()), m.AddedRows()
	t.files[iceberg.EntryStatusDELETED], t.rows[iceberg.EntryStatusDELETED] = int64(m.DeletedDataFiles()), m.DeletedRows()
	return t
}

// Check returns an error if a manifest's entries differ from the numbers in the manifest list. In format version 1, the
// list may omit numbers.
func (t *Tally) Check(m iceberg.ManifestFile) error {
	claims := claimsOf(m)
	for status, name := range []string{"existing", "added", "deleted"} {
		for _, n := range []struct {
			unit           string
			claims, actual int64
		}{{"files", claims.files[status], t.files[status]}, {"rows", claims.rows[status], t.rows[status]}} {
			if n.claims != n.actual && (n.claims != -1 || m.Version() > 1) {
				return fmt.Errorf("the manifest list says %d %s %s, but the manifest contains %d", n.claims, name, n.unit, n.actual)
			}
		}
	}
	return nil
}

// SameManifest reports whether two entries in manifest lists agree about a manifest.
func SameManifest(a, b iceberg.ManifestFile) bool {
	return claimsOf(a) == claimsOf(b) && a.PartitionSpecID() == b.PartitionSpecID() && a.ManifestContent() == b.ManifestContent() &&
		a.SequenceNum() == b.SequenceNum() && a.MinSequenceNum() == b.MinSequenceNum()
}

// vet checks a manifest or manifest list and returns its normalized content. It returns an error if Iceberg's library
// would panic on the content, or allocate too much memory because of numbers in the file. FileIO.Open vets files that
// the catalog did not write, because other engines can change these files even after a commit.
func (f *FileIO) vet(location string, content []byte) ([]byte, error) {
	key := fmt.Sprintf("%s %x", location, sha256.Sum256(content))
	if normalized, vetted := f.records.vetted.Get(key); vetted {
		if normalized == nil {
			normalized = content
		}
		return normalized, nil
	}
	r, err := ocf.NewReader(bytes.NewReader(content))
	if err != nil {
		return nil, err
	}
	defer r.Close() //nolint:errcheck // opened only for reading
	normalized := content
	switch {
	case ListKind.matches(r.Schema()) && f.skipVet:
		return content, nil
	case ListKind.matches(r.Schema()):
		err = f.vetList(content)
	case !ManifestKind.matches(r.Schema()):
		err = fmt.Errorf("the file's entries have neither the field %s nor the field %s", ManifestKind, ListKind)
	default:
		var isNormal bool
		isNormal, err = countAvro(context.Background(), bytes.NewReader(content), int64(len(content)), ManifestKind, ManifestBudget())
		if err == nil && !isNormal {
			err = parallel.Catch(func() (err error) { normalized, err = normalize(content); return err })
		}
	}
	if err != nil {
		return nil, err
	}
	toCache := normalized
	if bytes.Equal(normalized, content) {
		toCache = nil
	}
	f.records.vetted.Put(key, toCache, tallyCost+int64(len(key)+len(toCache)))
	return normalized, nil
}

// CheckAvro returns an error if an Avro file exceeds the budget or is of another kind. It reads one block at a time,
// whereas Iceberg's library would decompress the whole file into memory.
func (f *FileIO) CheckAvro(ctx context.Context, name string, kind AvroKind, budget *Budget) error {
	file, err := f.Open(name)
	if err != nil {
		return err
	}
	defer file.Close() //nolint:errcheck // opened only for reading
	info, err := file.Stat()
	if err != nil {
		return err
	}
	_, err = countAvro(ctx, file, info.Size(), kind, budget)
	return err
}

func (f *FileIO) vetList(content []byte) error {
	if _, err := countAvro(context.Background(), bytes.NewReader(content), int64(len(content)), ListKind, ListBudget()); err != nil {
		return err
	}
	var manifests []iceberg.ManifestFile
	if err := parallel.Catch(func() (err error) { manifests, err = iceberg.ReadManifestList(bytes.NewReader(content)); return err }); err != nil {
		return err
	}
	var g errgroup.Group
	g.SetLimit(maxSyncs)
	for _, m := range manifests {
		g.Go(func() error { return parallel.Catch(func() error { return f.vetCounts(m) }) })
	}
	return g.Wait()
}

// vetCounts returns an error if a manifest list claims more files for a manifest than the manifest contains.
func (f *FileIO) vetCounts(m iceberg.ManifestFile) error {
	t, cached := f.records.tallies.Get(m.FilePath())
	if !cached {
		fileIO := f.records.NewCheckIO() // otherwise, a manifest list in place of the manifest would be vetted recursively
		if err := fileIO.CheckAvro(context.Background(), m.FilePath(), ManifestKind, ManifestBudget()); err != nil {
			return err
		}
		err := parallel.Catch(func() error {
			for e, err := range iceberg.EntriesWithProjection(fileIO, m, false, iceberg.ManifestEntryProjection{}) {
				if err != nil {
					return err
				}
				t.Add(e)
			}
			return nil
		})
		if err != nil {
			return fmt.Errorf("manifest %s: %w", m.FilePath(), err)
		}
		f.records.tallies.Put(m.FilePath(), t, tallyCost+int64(len(m.FilePath())))
	}
	var claimed, actual int64
	for status, n := range claimsOf(m).files {
		claimed += max(0, n)
		actual += t.files[status]
	}
	if claimed > actual {
		return fmt.Errorf("the manifest list says that manifest %[2]s contains %[1]d files, but it contains %[3]d", claimed, m.FilePath(), actual)
	}
	return nil
}

// tallyCost is the memory, in bytes, of a cached tally or vetted file, without its key and content.
const tallyCost = 200

func (f *FileIO) wrote(location string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.ContainsFunc(f.written, func(w WrittenFile) bool { return w.Path == location })
}

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

// countAvro adds an Avro file to a budget. It returns an error if the budget is then exceeded. isNormal is false for a
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
