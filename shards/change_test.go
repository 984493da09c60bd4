package shards

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/storeerror"
	"github.com/go-partd/partd/internal/testutil/must"
)

// uncertainDrop is a store whose Drop removes all keys, but reports that its outcome is unknown.
type uncertainDrop struct{ *partd.Dict }

func (u uncertainDrop) Drop(ctx context.Context) error {
	return errors.Join(u.Dict.Drop(ctx), fmt.Errorf("%w: the connection broke", partd.ErrUnknownOutcome))
}

// TestUncertainDropWritesList checks that the shard list is written again even if it is unknown whether the drop
// happened. Otherwise, the store would look like another one, and refuse all changes.
func TestUncertainDropWritesList(t *testing.T) {
	stores := []partd.Partd{partd.NewDict(), uncertainDrop{partd.NewDict()}}
	s := shardsOver(t, abc[:2], stores)
	fill(t, s, 10)
	must.Fail(t, s.Drop(t.Context()), partd.ErrUnknownOutcome, "Drop")
	for i, store := range stores {
		if v, err := store.Get(t.Context(), listKey); err != nil || len(v[0]) == 0 {
			t.Errorf("after Drop, shard %s has the list %q, %v", abc[i], v, err)
		}
	}
	fill(t, shardsOver(t, abc[:2], stores), 10)
}

// TestJoinedErrors checks the errors of operations that fail in different ways on the shards.
func TestJoinedErrors(t *testing.T) {
	names := []*shard{{name: "a"}, {name: "b"}, {name: "c"}}
	unsupported, down := fmt.Errorf("no scan: %w", errors.ErrUnsupported), errors.New("no route to host")
	for _, c := range []struct {
		errs                       []error
		n                          need
		wantUnsupported, wantDoubt bool
	}{
		{[]error{nil, unsupported, nil}, readable, true, false},
		{[]error{nil, unsupported, down}, readable, false, false}, // callers may ignore ErrUnsupported
		{[]error{unsupported, unsupported, down}, strict, false, false},
		{[]error{unsupported, unsupported, unsupported}, lenient, true, false},
		{[]error{unsupported, unsupported, unsupported}, writable, true, false},
		{[]error{nil, unsupported, unsupported}, writable, false, true},
		{[]error{down, unsupported, down}, writable, false, false},
		{[]error{nil, down, down}, writable, false, true},
	} {
		err := joinErrors(names, c.errs, c.n)
		if err == nil || errors.Is(err, errors.ErrUnsupported) != c.wantUnsupported || errors.Is(err, partd.ErrUnknownOutcome) != c.wantDoubt {
			t.Errorf("the joined error of %q with need %d is %v; want ErrUnsupported: %v, ErrUnknownOutcome: %v", c.errs, c.n, err, c.wantUnsupported, c.wantDoubt)
		}
	}
	denied, retried := fmt.Errorf("denied: %w", fs.ErrPermission), storeerror.RetriedByClose(down)
	for _, c := range []struct {
		errs         []error
		losesNothing bool
	}{
		{[]error{denied, retried, nil}, true}, {[]error{denied, down, nil}, false}, {[]error{retried, nil, down}, false}, {[]error{unsupported, down, nil}, false},
	} {
		if err := joinErrors(names, c.errs, lenient); err == nil || storeerror.LosesNothing(err) != c.losesNothing {
			t.Errorf("the joined error of %q is %v; partd.Close may ignore it: %v, want %v", c.errs, err, !c.losesNothing, c.losesNothing)
		}
	}
	if err := joinErrors(names, []error{nil, unsupported, nil}, lenient); err != nil {
		t.Errorf("the joined error of a loose operation that some shards support is %v, want nil", err)
	}
}

// TestIdentifierLines checks which values of the list key are valid, and which identifiers count.
func TestIdentifierLines(t *testing.T) {
	sh := shardsOver(t, abc, dicts(3)).shards[0]
	for _, c := range []struct {
		lines, own, other string
		ok                bool
	}{
		{"", "", "", false}, // no identifier
		{"id 2 b\n", "", "2", false},
		{"id 1 a\nid 2 b\n", "1", "2", true},
		{"id 1 a\nid 3 a\nid 2 b\nid 4 b\n", "1", "4", true},
		{"id 1 a\nid 2 b", "1", "", false}, // the line is not complete
		{"id 1 a\nid 2\n", "1", "", false},
		{"id 1 a\nx\n", "1", "", false},
	} {
		id, ok := sh.parseList(sh.list + c.lines)
		if ok != c.ok || ok && (id.ownID != c.own || id.otherIDs["b"] != c.other) {
			t.Errorf("parseList of the list and %q = %+v, %v, want identifiers %q and %q, %v", c.lines, id, ok, c.own, c.other, c.ok)
		}
	}
	if _, ok := sh.parseList("another list\nid 1 a\n"); ok {
		t.Error("parseList accepted another list")
	}
}
