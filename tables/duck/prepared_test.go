//go:build cgo

package duck

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/database"
)

// counted is a database that counts what a statement needs DuckDB for.
type counted struct {
	database.Runner
	calls *[]string
}

func (c counted) Names(sql string) ([]database.Name, error) {
	*c.calls = append(*c.calls, "names")
	return c.Runner.Names(sql)
}

func (c counted) Describe(j *database.Job) (result, parameters *arrow.Schema, err error) {
	*c.calls = append(*c.calls, "prepare")
	return c.Runner.Describe(j)
}

// TestPreparedOnce describes a statement twice and runs it, as a client of Flight SQL does. It is
// parsed and prepared once, in the database that runs it.
func TestPreparedOnce(t *testing.T) {
	e, err := New(&Options{TempDir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	s, err := tables.Open(t.Context(), t.TempDir(), &tables.Options{Engine: e, FoldAge: -1})
	if err != nil {
		t.Fatal(err)
	}
	var calls []string
	for range maxIdle {
		db, err := e.open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		e.idle = append(e.idle, lent{db: counted{db, &calls}})
	}
	for range 3 {
		if _, err := s.Describe(t.Context(), "SELECT 1 AS a", nil); err != nil {
			t.Fatal(err)
		}
	}
	r, err := s.Query(t.Context(), "SELECT 1 AS a", nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Release()
	if got := strings.Join(calls, ", "); got != "names, prepare" {
		t.Errorf("a statement took %s", got)
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := e.Close(); err != nil {
		t.Error(err)
	}
}

// TestPreparations has the bounds of what is kept.
func TestPreparations(t *testing.T) {
	var p preparations
	of := func(caller string, i int) statement { return statement{caller, "", fmt.Sprint(i)} }
	has := func(caller string, i int) bool {
		_, found := p.find(of(caller, i))
		return found
	}
	p.keep(prepared{statement: of("a", 0)})
	for i := range 2 * maxPrepared {
		p.keep(prepared{statement: of("b", i)})
	}
	if !has("a", 0) || len(p.all) != 1+maxPrepared/8 || !has("b", 2*maxPrepared-1) {
		t.Errorf("%d statements, of a caller who has many and of one who has one", len(p.all))
	}
	for i := range 100 {
		for j := range maxPrepared / 8 {
			p.keep(prepared{statement: of(fmt.Sprint(i), j)})
		}
	}
	if len(p.all) != maxPrepared {
		t.Errorf("%d statements of many callers", len(p.all))
	}
	long := strings.Repeat("x", maxPreparedBytes/20)
	for i := range 30 {
		p.keep(prepared{statement: statement{caller: "c", sql: long + fmt.Sprint(i)}})
	}
	bytes := 0
	for _, one := range p.all {
		if one.caller == "c" {
			bytes += one.bytes
		}
	}
	if bytes == 0 || bytes > maxPreparedBytes/8 {
		t.Errorf("%d bytes of one caller", bytes)
	}
	last := &p.all[len(p.all)-1]
	last.used = time.Now().Add(-preparedFor - time.Second)
	if _, found := p.find(last.statement); found {
		t.Error("a statement that nobody used for long")
	}
	p.keep(prepared{statement: of("d", 0)})
	p.keep(prepared{statement: statement{caller: "d", sql: strings.Repeat("x", maxPreparedBytes)}})
	if got := p.all[len(p.all)-1]; got.statement != of("d", 0) {
		t.Error("a statement of more bytes than a caller may have is kept, or pushes out others")
	}
}
