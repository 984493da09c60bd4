package tail

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd"
)

// unsure is a store whose appends succeed, but report an unknown outcome while now is set.
type unsure struct {
	*partd.Dict
	now bool
}

func (u *unsure) Append(ctx context.Context, e ...partd.Entry) error {
	err := u.Dict.Append(ctx, e...)
	if err == nil && u.now {
		err = partd.ErrUnknownOutcome
	}
	return err
}

// TestKept checks that a reader's result is kept within the memory limit for rows, until the rows
// change or are folded.
func TestKept(t *testing.T) {
	ctx := t.Context()
	p := &unsure{Dict: partd.NewDict()}
	s, err := Open(ctx, p, "w", false, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	l := s.Log(table, -1)
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	few, many := batchOf(t, schema, 1, 2, 3), batchOf(t, schema, make([]int64, 40_000)...)
	add := func(id string, want error) {
		t.Helper()
		if err := appendTo(ctx, l, schema, id, time.Now(), few); !errors.Is(err, want) {
			t.Fatal(err)
		}
	}
	last := ""
	change := func(what string) {
		t.Helper()
		mark, err := l.Mark(ctx, -1)
		if err != nil || mark == last {
			t.Fatalf("%s: the mark is %s again: %v", what, mark, err)
		}
		if _, _, ok := l.Kept(mark); ok {
			t.Fatalf("%s: what was kept before is there", what)
		}
		before := s.Used()
		l.Keep(mark, many, true)
		if _, _, ok := l.Kept(mark); ok || s.Used() != before {
			t.Fatalf("%s: %d bytes are kept", what, s.Used())
		}
		l.Keep(mark, few, true)
		again, err := l.Mark(ctx, -1)
		rows, replaces, ok := l.Kept(mark)
		if err != nil || again != mark || !ok || !replaces || rows[0] != few || s.Used() <= before {
			t.Fatalf("%s: %v %v %v", what, rows, ok, err)
		}
		last = mark
	}
	add("one", nil)
	change("a first append")
	add("two", nil)
	change("another")
	p.now = true
	add("three", partd.ErrUnknownOutcome)
	change("an append of which nothing is known")
	p.now = false
	l.Void([]string{"two"})
	change("an append that counts elsewhere")
	if err := l.Forget(ctx, 1<<40); err != nil {
		t.Fatal(err)
	}
	l.Keep(last, few, false) // a slow reader keeps its result late
	if used := s.Used(); used != 0 {
		t.Errorf("the rows take %d bytes once they are folded", used)
	}
}

// forgetful is a store that loses its data when now is set.
type forgetful struct {
	*partd.Dict
	now bool
}

func (f *forgetful) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	if f.now {
		return make([][]byte, len(keys)), nil
	}
	return f.Dict.Get(ctx, keys...)
}

// TestKeptOfLost checks that a result with a lost append is dropped, although a later append with
// as many rows and bytes has the same mark.
func TestKeptOfLost(t *testing.T) {
	ctx := t.Context()
	p := &forgetful{Dict: partd.NewDict()}
	s, err := Open(ctx, p, "w", false, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	l := s.Log(table, -1)
	schema := arrow.NewSchema([]arrow.Field{{Name: "n", Type: arrow.PrimitiveTypes.Int64}, {Name: "s", Type: arrow.BinaryTypes.String, Nullable: true}}, nil)
	add := func(n int64, id string) string {
		t.Helper()
		rows := batchOf(t, schema, n)
		if err := appendTo(ctx, l, schema, id, time.Unix(1, 0), rows); err != nil {
			t.Fatal(err)
		}
		mark, err := l.Mark(ctx, -1)
		if err != nil {
			t.Fatal(err)
		}
		return mark
	}
	mark := add(1, "a")
	l.Keep(mark, batchOf(t, schema, 1), false)
	p.now, l.epochs[0].stale = true, true // as after a failed sync
	if again := add(2, "b"); again != mark {
		t.Fatal("the mark is another, and this tests nothing: ", mark, again)
	}
	if rows, _, ok := l.Kept(mark); ok {
		t.Error("what was kept of the lost append is there: ", rows)
	}
}
