package commit_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/apache/iceberg-go"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	partdiceberg "github.com/go-partd/partd/tables/iceberg"
	"github.com/go-partd/partd/tables/internal/state/commit"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// TestRowCountsOfRegisteredTable registers a table of which several snapshots have deletion vectors. Their rows are
// counted exactly until the limit of files is reached, and those of the current snapshot always.
func TestRowCountsOfRegisteredTable(t *testing.T) {
	defer func(n int) { *commit.MaxPlanned = n }(*commit.MaxPlanned)
	s := tabletest.Open(t, t.TempDir(), &tables.Options{NoTail: true})
	b := s.Bucket("")
	tabletest.Put(t, b, "t", tables.PutAppend, tabletest.Sequence(0, 10)...)
	engine := tabletest.NewEngine(t, s, "", "t")
	engine.MergeOnRead(3)
	for i := range int64(4) {
		engine.Delete(iceberg.EqualTo(iceberg.Reference("n"), i))
	}
	location := must.Get(engine.LoadTable(t.Context(), nil))(t).MetadataLocation()
	for _, c := range []struct {
		limit int
		want  string
	}{{100, "10 9 8 7 6"}, {5, "10 9 8 <=10 6"}, {0, "10 <=10 <=10 <=10 6"}} {
		*commit.MaxPlanned = c.limit
		must.Do(t, b.Table("t").Delete(t.Context()))
		meta := must.Get(partdiceberg.ReadMetadata(t.Context(), s, location, func(int64) error { return nil }))(t)
		must.Get(partdiceberg.Commit(t.Context(), s, partdiceberg.Change{Table: "t", New: meta, Registered: true}))(t)
		var rows []string
		for _, v := range must.Get(b.Table("t").Versions(t.Context()))(t) {
			rows = append(rows, map[bool]string{true: "<="}[bool(v.AtMost)]+fmt.Sprint(v.Rows))
		}
		if got := strings.Join(rows, " "); got != c.want {
			t.Errorf("with a limit of %d files, the versions have %s rows, want %s", c.limit, got, c.want)
		}
	}
}
