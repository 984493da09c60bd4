package tables_test

import (
	"bufio"
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/testutil/tabletest"
)

// killChild runs operations on a directory, its argument, until it is killed. It reads each operation from standard input,
// and prints a line after it.
func killChild(args []string) error {
	ctx := context.Background()
	s, err := tables.Open(ctx, args[0], &tables.Options{FoldBytes: 2000, FoldAge: 5 * time.Millisecond, Sync: rand.IntN(2) == 0})
	if err != nil {
		return err
	}
	b := s.Bucket("")
	fmt.Println("ready")
	in := bufio.NewReader(os.Stdin)
	for {
		var op, name string
		var first, count int64
		if _, err := fmt.Fscanln(in, &op, &name, &first, &count); err != nil {
			return err
		}
		switch op {
		case "append", "replace":
			mode := tables.PutAppend
			if op == "replace" {
				mode = tables.PutReplace
			}
			_, err = b.Table(name).Put(ctx, tabletest.Rows(tabletest.Sequence(first, count)...), mode, nil)
		case "fold":
			_, err = s.Fold(ctx, nil)
		case "compact":
			_, err = s.Compact(ctx, nil)
		case "maintain":
			_, err = s.Maintain(ctx, &tables.MaintainOptions{Keep: 2, Grace: -1})
		case "expire":
			_, err = s.Expire(ctx, &tables.MaintainOptions{Grace: -1})
		}
		if err != nil {
			return err
		}
		fmt.Println("done")
	}
}

func TestMain(m *testing.M) {
	procs.Roles{"operations": killChild, "synced writes": syncKillChild, "reads and writes": readWriteChild, "remote writers": writerChild}.Main(m)
}

// rowsByTable is the expected content of a store.
type rowsByTable map[string][]int64

func (a rowsByTable) equal(b rowsByTable) bool {
	return maps.EqualFunc(a, b, func(a, b []int64) bool { return slices.Equal(a, b) })
}

// TestKill checks that each process killed with kill -9 leaves all acknowledged rows; PARTD_KILLS sets how many are killed.
func TestKill(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rnd := rand.New(rand.NewPCG(1, 1))
	acknowledged := rowsByTable{}
	next := int64(0)
	for round := range procs.Kills(t, 3) {
		inFlight := killRound(t, dir, rnd, acknowledged, &next)
		s, err := tables.Open(t.Context(), dir, &tables.Options{FoldAge: -1})
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		got := rowsByTable{}
		for _, name := range []string{"a", "b"} {
			rows, ok, err := tabletest.Read(t.Context(), s.Bucket(""), name)
			if err != nil {
				t.Fatalf("round %d: %v", round, err)
			}
			if ok {
				got[name] = rows
			}
		}
		if !got.equal(acknowledged) && !got.equal(inFlight) {
			t.Fatalf("round %d: the tables are %v, want %v or %v", round, got, acknowledged, inFlight)
		}
		acknowledged = got
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// killRound starts a process, lets it work for a while and kills it. It updates acknowledged after each acknowledged
// operation. The kill interrupts an operation; if that operation took effect nevertheless, the tables contain inFlight.
func killRound(t *testing.T, dir string, rnd *rand.Rand, acknowledged rowsByTable, next *int64) (inFlight rowsByTable) {
	p := procs.Start(t, procs.Command("operations", dir))
	p.WaitFor(t, "ready")
	p.KillAfter(time.Duration(rnd.IntN(200)) * time.Millisecond)
	for {
		name := []string{"a", "b"}[rnd.IntN(2)]
		op := []string{"append", "append", "append", "append", "append", "replace", "fold", "compact", "expire", "maintain"}[rnd.IntN(10)]
		count := int64(1 + rnd.IntN(3))
		if rnd.IntN(6) == 0 {
			count = 150 // too many rows for the tail: written directly to a file
		}
		inFlight = rowsByTable{}
		for k, v := range acknowledged {
			inFlight[k] = v
		}
		switch op {
		case "append":
			inFlight[name] = append(slices.Clone(acknowledged[name]), tabletest.Sequence(*next, count)...)
		case "replace":
			inFlight[name] = tabletest.Sequence(*next, count)
		}
		first := *next
		*next += count
		if _, ok := p.Ask(fmt.Sprintf("%s %s %d %d", op, name, first, count)); !ok {
			break
		}
		for k, v := range inFlight {
			acknowledged[k] = v
		}
	}
	p.WaitKilled(t)
	return inFlight
}
