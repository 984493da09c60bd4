package datafile

import (
	"context"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
	"github.com/apache/iceberg-go"
	iceio "github.com/apache/iceberg-go/io"
	"github.com/apache/iceberg-go/puffin"
	"github.com/apache/iceberg-go/table"
	"github.com/apache/iceberg-go/table/dv"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// TestDeletesMemory checks that positions and keys of delete files count against maxDeleteBytes.
func TestDeletesMemory(t *testing.T) {
	columns := iceberg.NewSchema(0, iceberg.NestedField{ID: 1, Name: "k", Type: iceberg.PrimitiveTypes.Int64})
	meta := must.Get(table.NewMetadata(columns, iceberg.UnpartitionedSpec, table.UnsortedSortOrder, "file:///nowhere", nil))(t)
	id := func(id string) arrow.Metadata { return arrow.NewMetadata([]string{IDKey}, []string{id}) }
	for kind, content := range map[string]iceberg.ManifestEntryContent{"positions": iceberg.EntryContentPosDeletes, "keys": iceberg.EntryContentEqDeletes} {
		fields := []arrow.Field{{Name: "k", Type: arrow.PrimitiveTypes.Int64, Metadata: id("1")}}
		rows := `[{"k":1},{"k":2}]`
		if kind == "positions" {
			fields = []arrow.Field{{Name: "file_path", Type: arrow.BinaryTypes.String, Metadata: id("2147483546")}, {Name: "pos", Type: arrow.PrimitiveTypes.Int64, Metadata: id("2147483545")}}
			rows = `[{"file_path":"a","pos":1},{"file_path":"a","pos":2},{"file_path":"a","pos":1099511627776},{"file_path":"not a file of the scan","pos":70000}]`
		}
		s := arrow.NewSchema(fields, nil)
		b, _, err := array.RecordFromJSON(memory.DefaultAllocator, s, strings.NewReader(rows))
		must.Do(t, err)
		path := filepath.Join(t.TempDir(), "deletes.parquet")
		must.Do(t, os.WriteFile(path, written(t, b, nil), 0o600))
		builder := must.Get(iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, content, path, iceberg.ParquetFile, nil, nil, nil, b.NumRows(), 1))(t)
		task := table.FileScanTask{}
		if kind == "positions" {
			task.DeleteFiles = []iceberg.DataFile{builder.Build()}
		} else {
			task.EqualityDeleteFiles = []iceberg.DataFile{builder.EqualityFieldIDs([]int{1}).Build()}
		}
		dataFile := must.Get(iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentData, "a", iceberg.ParquetFile, nil, nil, nil, 1, 1))(t)
		task.File = dataFile.Build()
		for used, fails := range map[int64]bool{maxDeleteBytes - 1000: false, maxDeleteBytes - 20: true} {
			d := &deleteReader{
				t:         table.New(nil, meta, "", func(context.Context) (iceio.IO, error) { return iceio.LocalFS{}, nil }, nil),
				dataFiles: map[string]bool{"a": true}, bytes: used,
			}
			_, err := d.deletesOf(t.Context(), task)
			if fails != (err != nil && strings.Contains(err.Error(), "512 MiB")) || err != nil && !fails {
				t.Errorf("%s, with %d bytes in use: error = %v, want an error about 512 MiB: %v", kind, used, err, fails)
			}
			// Positions that are far apart each need a bitmap.
			if want := map[string]int64{"positions": 2 * bitmapBytes, "keys": 2}[kind]; d.bytes-used < want {
				t.Errorf("%s: reading the delete file counted %d bytes, want at least %d", kind, d.bytes-used, want)
			}
		}
	}
}

// TestHostileVector reads deletion vectors that claim more bitmaps than they contain. They are refused before memory
// is allocated for the bitmaps.
func TestHostileVector(t *testing.T) {
	for _, bitmaps := range []uint64{1 << 24, 1 << 25, math.MaxUint64} {
		blob := binary.LittleEndian.AppendUint64(binary.LittleEndian.AppendUint32(nil, dv.DVMagicNumber), bitmaps)
		blob = slices.Concat(binary.BigEndian.AppendUint32(nil, uint32(len(blob))), blob, binary.BigEndian.AppendUint32(nil, crc32.ChecksumIEEE(blob)))
		path := filepath.Join(t.TempDir(), "vector.puffin")
		file := must.Get(os.Create(path))(t)
		w := must.Get(puffin.NewWriter(file))(t)
		meta, err := w.AddBlob(puffin.BlobMetadataInput{Type: puffin.BlobTypeDeletionVector, SnapshotID: -1, SequenceNumber: -1, Fields: []int32{2147483645}, Properties: map[string]string{"cardinality": "1", "referenced-data-file": "a"}}, blob)
		must.Do(t, errors.Join(err, w.Finish(), file.Close()))
		b := must.Get(iceberg.NewDataFileBuilder(*iceberg.UnpartitionedSpec, iceberg.EntryContentPosDeletes, path, iceberg.PuffinFile, nil, nil, nil, 1, 1))(t)
		f := b.ContentOffset(meta.Offset).ContentSizeInBytes(meta.Length).ReferencedDataFile("a").Build()
		tab := table.New(nil, nil, "", func(context.Context) (iceio.IO, error) { return iceio.LocalFS{}, nil }, nil)
		allocated := procs.Allocated(func() {
			_, err = (&deleteReader{t: tab}).deletesOf(t.Context(), table.FileScanTask{DeletionVectorFiles: []iceberg.DataFile{f}})
		})
		if err == nil || !strings.Contains(err.Error(), "claims") || allocated > 10<<20 {
			t.Errorf("a vector that claims %d bitmaps: error = %v, %d bytes allocated; want an error about the claim, and at most 10 MiB", bitmaps, err, allocated)
		}
	}
}
