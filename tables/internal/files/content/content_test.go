package content

import (
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables/internal/files/icecat"
)

// TestCopyEqualFiles checks that two files of other programs with the same name and content get separate
// copies.
func TestCopyEqualFiles(t *testing.T) {
	t.Parallel()
	to := must.Get(icecat.Open(t.Context(), t.TempDir(), icecat.Options{FS: vfs.OS{}}))(t)
	defer to.Close() //nolint:errcheck // only read
	files := to.NewIO()
	path := to.NewLocation() + "/data/1.parquet"
	must.Do(t, files.WriteFile(path, []byte("rows")))
	must.Do(t, to.RecordFiles(t.Context(), files))
	content, ok, err := to.FileAt(t.Context(), path)
	if err != nil || !ok {
		t.Fatalf("FileAt = %v, %v, want true", ok, err)
	}
	c := NewCopy(nil, to, false)
	for i, want := range []string{path, "", ""} {
		if got, usable, err := c.findExisting(t.Context(), content); err != nil || got != want || usable != (want != "") {
			t.Errorf("find, call %d: got %q, usable %v, %v, want %q", i, got, usable, err, want)
		}
	}
	if a, b := c.chooseLocation("x/1.parquet", "d"), c.chooseLocation("y/1.parquet", "d"); a == b {
		t.Errorf("chooseLocation returned %q twice", a)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	c := must.Get(icecat.Open(t.Context(), t.TempDir(), icecat.Options{FS: vfs.OS{}}))(t)
	defer c.Close() //nolint:errcheck // only read
	files := c.NewIO()
	for _, name := range []string{"good", "other"} {
		must.Do(t, files.WriteFile(c.NewLocation()+"/data/"+name, []byte(name)))
	}
	good, other := files.Written()[0], files.Written()[1]
	must.Do(t, Check(t.Context(), c, good.Path, good))
	must.Fail(t, Check(t.Context(), c, other.Path, good), "it is larger than the 4 bytes", "Check of a longer file")
	if err := Check(t.Context(), c, good.Path+"x", good); err == nil {
		t.Error("Check accepted a missing file")
	}
}

// TestRowSum checks that equal rows have the same sum in any order, and that different rows have different sums.
func TestRowSum(t *testing.T) {
	schema := arrow.NewSchema([]arrow.Field{{Name: "a", Type: arrow.BinaryTypes.String, Nullable: true}, {Name: "b", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	sum := func(rows string) *RowSum {
		batch, _, err := array.RecordFromJSON(memory.DefaultAllocator, schema, strings.NewReader(rows))
		must.Do(t, err)
		s := &RowSum{}
		s.Add(batch.NewSlice(0, 1))
		s.Add(batch.NewSlice(1, batch.NumRows()))
		return s
	}
	want := sum(`[{"a":"x","b":"y"},{"a":"z","b":null}]`)
	if got := sum(`[{"a":"z","b":null},{"a":"x","b":"y"}]`); !got.Equals(want) {
		t.Error("the sum depends on the order of the rows:", got, want)
	}
	for _, different := range []string{
		`[{"a":"y","b":"x"},{"a":"z","b":null}]`, `[{"a":"x","b":null},{"a":"z","b":"y"}]`, `[{"a":"xy","b":""},{"a":"z","b":null}]`,
		`[{"a":"x","b":"y"},{"a":"z","b":""}]`, `[{"a":"x","b":"y"},{"a":"x","b":"y"}]`, `[{"a":"x","b":"y"},{"a":"z","b":null},{}]`,
	} {
		if got := sum(different); got.Equals(want) {
			t.Errorf("the different rows %s have the same sum", different)
		}
	}
}
