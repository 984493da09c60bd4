package tables_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/go-partd/partd/objstore"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/files/content"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestCopyToABucket checks that a store copied to a bucket is complete, and can be copied back. Verify finds damaged
// objects although intact copies of them are cached, and repairs data objects from the original store.
func TestCopyToABucket(t *testing.T) {
	t.Parallel()
	source, b := tabletest.FullStore(t), new(objstore.Memory)
	want := tabletest.StateOf(t, source)
	bucket := tabletest.Open(t, "s3://bucket/house", tabletest.MemoryWarehouse(t, b))
	if _, err := source.CopyTo(t.Context(), bucket); err != nil {
		t.Fatal(err)
	}
	tabletest.WantState(t, bucket, want)
	for kind, path := range sampleFiles(t, bucket, "one", "twice") {
		name := strings.TrimPrefix(path, "s3://bucket/house/")
		before := readObject(t, b, name)
		for damageName, data := range map[string][]byte{"flipped": flipBit(before), "short": before[:len(before)/2], "missing": nil} {
			replaceObject(t, b, name, data)
			findings, _ := tabletest.VerifyAll(t, bucket, tables.VerifyOptions{})
			if len(findings) != 1 || findings[0].File != path || findings[0].Table != "twice" || findings[0].State != tables.Damaged {
				t.Fatalf("%s %s: Verify reported %+v, want one file", kind, damageName, findings)
			}
			if kind != "data" {
				replaceObject(t, b, name, before) // metadata differs between stores, so it cannot be repaired from the original
				continue
			}
			if findings, _ := tabletest.VerifyAll(t, bucket, tables.VerifyOptions{Repair: source.Copies()}); len(findings) != 1 || findings[0].State != tables.Repaired {
				t.Fatalf("%s %s: Verify reported %+v, want one file", kind, damageName, findings)
			}
			if now := readObject(t, b, name); !bytes.Equal(now, before) {
				t.Fatalf("%s %s: the repaired object differs from the original", kind, damageName)
			}
		}
	}
	if findings, r := tabletest.VerifyAll(t, bucket, tables.VerifyOptions{}); len(findings) > 0 || r.Tables != 4 {
		t.Fatalf("Verify reported %+v with result %+v, want no findings and Tables 4", findings, r)
	}
	if _, err := bucket.Backup(t.Context(), tabletest.Open(t, t.TempDir(), nil), "monday"); err != nil {
		t.Fatal(err)
	}
	copiedBack := tabletest.Open(t, t.TempDir(), nil)
	if _, err := bucket.CopyTo(t.Context(), copiedBack); err != nil {
		t.Fatal(err)
	}
	tabletest.WantState(t, copiedBack, want)
}

func flipBit(b []byte) []byte {
	b = bytes.Clone(b)
	b[len(b)/2] ^= 1
	return b
}

// sampleFiles returns one file of each kind of a table.
func sampleFiles(t *testing.T, s *tables.Store, bucket, name string) map[string]string {
	t.Helper()
	tb, err := s.Catalog().Load(t.Context(), tables.NamespaceOf(bucket), name)
	if err != nil {
		t.Fatal(err)
	}
	version := tb.Metadata().CurrentSnapshot()
	manifests, err := version.Manifests(s.Catalog().NewIO())
	if err != nil {
		t.Fatal(err)
	}
	entries, err := content.Entries(s.Catalog().NewIO(), manifests[0])
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{"list": version.ManifestList, "manifest": manifests[0].FilePath(), "data": entries[0].DataFile().FilePath()}
}

func readObject(t *testing.T, b objstore.Bucket, name string) []byte {
	t.Helper()
	r, err := b.ReadRange(t.Context(), name, 0, -1)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var data bytes.Buffer
	if _, err := data.ReadFrom(r); err != nil {
		t.Fatal(fmt.Errorf("%s: %w", name, err))
	}
	return data.Bytes()
}

// replaceObject replaces an object, or deletes it if data is nil.
func replaceObject(t *testing.T, b objstore.Bucket, name string, data []byte) {
	t.Helper()
	if err := b.Delete(t.Context(), name); err != nil {
		t.Fatal(err)
	}
	if data == nil {
		return
	}
	if err := b.Create(t.Context(), name, data); err != nil {
		t.Fatal(err)
	}
}
