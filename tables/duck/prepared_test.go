//go:build cgo

package duck

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/tablestest"
)

// countingRunner is a database that records calls to TableNames and Describe.
type countingRunner struct {
	database.Runner
	calls *[]string
}

func (c countingRunner) TableNames(sql string) ([]database.Name, error) {
	*c.calls = append(*c.calls, "names")
	return c.Runner.TableNames(sql)
}

func (c countingRunner) Describe(j *database.Job) (result, parameters *arrow.Schema, err error) {
	*c.calls = append(*c.calls, "prepare")
	return c.Runner.Describe(j)
}

func (c countingRunner) Start(ctx context.Context, j *database.Job) (database.Rows, error) {
	*c.calls = append(*c.calls, "start")
	return c.Runner.Start(ctx, j)
}

// openCounting opens a store until the test ends. The function record must be called before a statement; it returns the
// calls that the statements after it make.
func openCounting(t *testing.T) (s *tables.Store, record func() *[]string) {
	t.Helper()
	e := must.Get(New(&Options{TempDir: t.TempDir()}))(t)
	t.Cleanup(func() { must.Do(t, e.Close()) })
	s = tablestest.Open(t, &tables.Options{Engine: e, FoldAge: -1})
	for range maxIdle {
		db := must.Get(e.pool.opener.open(t.Context()))(t)
		e.pool.idle = append(e.pool.idle, lease{db: db})
	}
	return s, func() *[]string {
		e.pool.mu.Lock()
		defer e.pool.mu.Unlock()
		for e.pool.opening > 0 { // wait for databases that are being opened
			e.pool.mu.Unlock()
			time.Sleep(time.Millisecond)
			e.pool.mu.Lock()
		}
		calls := new([]string)
		for i, d := range e.pool.idle {
			if c, ok := d.db.(countingRunner); ok {
				d.db = c.Runner
			}
			e.pool.idle[i].db = countingRunner{d.db, calls}
		}
		return calls
	}
}

// TestPreparedOnce describes a statement several times and then runs it, like a Flight SQL client. The statement must
// be parsed and prepared only once.
func TestPreparedOnce(t *testing.T) {
	s, record := openCounting(t)
	calls := record()
	for range 3 {
		must.Get(s.Describe(t.Context(), "SELECT 1 AS a", nil))(t)
	}
	must.Get(s.Query(t.Context(), "SELECT 1 AS a", nil))(t).Release()
	if got := strings.Join(*calls, ", "); got != "names, prepare, start" {
		t.Errorf("the statement made the calls %q, want \"names, prepare, start\"", got)
	}
}

func TestPreparedCache(t *testing.T) {
	var p preparedCache
	newStatement := func(caller string, i int) statement { return statement{caller, "", fmt.Sprint(i)} }
	has := func(caller string, i int) bool {
		_, ok := p.find(newStatement(caller, i))
		return ok
	}
	p.add(prepared{statement: newStatement("a", 0)})
	for i := range 2 * maxPrepared {
		p.add(prepared{statement: newStatement("b", i)})
	}
	if !has("a", 0) || len(p.entries) != 1+maxPrepared/8 || !has("b", 2*maxPrepared-1) {
		t.Errorf("cache has %d statements, want 1 of caller a and the newest %d of caller b", len(p.entries), maxPrepared/8)
	}
	for i := range 100 {
		for j := range maxPrepared / 8 {
			p.add(prepared{statement: newStatement(fmt.Sprint(i), j)})
		}
	}
	if len(p.entries) != maxPrepared {
		t.Errorf("cache has %d statements of many callers, want %d", len(p.entries), maxPrepared)
	}
	long := strings.Repeat("x", maxPreparedBytes/20)
	for i := range 30 {
		p.add(prepared{statement: statement{caller: "c", sql: long + fmt.Sprint(i)}})
	}
	bytes := 0
	for _, st := range p.entries {
		if st.caller == "c" {
			bytes += st.size
		}
	}
	if bytes == 0 || bytes > maxPreparedBytes/8 {
		t.Errorf("cache has %d bytes of one caller, want 1 to %d", bytes, maxPreparedBytes/8)
	}
	last := &p.entries[len(p.entries)-1]
	last.lastUsed = time.Now().Add(-preparedTTL - time.Second)
	if _, ok := p.find(last.statement); ok {
		t.Error("find returned a statement after its TTL")
	}
	p.add(prepared{statement: newStatement("d", 0)})
	p.add(prepared{statement: statement{caller: "d", sql: strings.Repeat("x", maxPreparedBytes)}})
	if got := p.entries[len(p.entries)-1]; got.statement != newStatement("d", 0) {
		t.Error("a statement above a caller's limit was kept, or evicted others")
	}
}
