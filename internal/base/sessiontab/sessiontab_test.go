package sessiontab

import (
	"errors"
	"slices"
	"testing"

	"github.com/go-partd/partd/internal/base/storeerror"
)

func TestIsNext(t *testing.T) {
	last := Operation{Number: 7, CRC: 70}
	for _, c := range []struct {
		op   Operation
		want bool
		err  error
	}{
		{Operation{8, 80}, true, nil},
		{Operation{8, 70}, true, nil},
		{Operation{9, 90}, false, storeerror.ErrSessionGap},
		{Operation{7, 70}, false, nil},
		{Operation{7, 71}, false, storeerror.ErrSessionReused},
		{Operation{6, 71}, false, nil}, // its CRC is no longer known
	} {
		if got, err := last.IsNext(5, c.op); got != c.want || !errors.Is(err, c.err) {
			t.Errorf("IsNext(5, %v) after %v = %v, %v, want %v, %v", c.op, last, got, err, c.want, c.err)
		}
	}
}

// TestTable checks the order in which sessions are forgotten: unused sessions first, until only 64 or a 128th of the limit
// are left.
func TestTable(t *testing.T) {
	for _, limit := range []int{256, 1 << 20} {
		var table Table[string]
		keep := min(limit/128, minUnused)
		for id := range uint64(keep + 2) {
			table.Add(id, "unused")
		}
		for _, id := range []uint64{1001, 1002, 1003, 1001} {
			table.Use(id, "used")
		}
		var forgotten []uint64
		want := []uint64{0, 1, 1002, 1003, 1001, 2, 3}
		for id := range table.All() {
			if id == 2 {
				break
			}
		}
		if v, ok := table.Get(1003); !ok || v != "used" || table.Len() != keep+5 {
			t.Errorf("session 1003 has the value %q, and there are %d sessions", v, table.Len())
		}
		for range want {
			oldest := table.Oldest(limit)
			forgotten = append(forgotten, oldest)
			table.Remove(oldest)
			if _, ok := table.Get(oldest); ok {
				t.Errorf("session %d was not removed", oldest)
			}
		}
		if !slices.Equal(forgotten, want) {
			t.Errorf("with the limit %d, the sessions are forgotten in the order %v, want %v", limit, forgotten, want)
		}
	}
	var table Table[int]
	table.Use(1, 10)
	table.Add(2, 20)
	table.Use(3, 30)
	table.Use(2, 21)
	table.Remove(9)
	var all []int
	for id, v := range table.All() {
		all = append(all, int(id), v)
	}
	if want := []int{1, 10, 3, 30, 2, 21}; !slices.Equal(all, want) {
		t.Errorf("the sessions and their values are %v, want %v", all, want)
	}
}

// TestTokens checks that a peer cannot guess the token of another's session: it depends on the secret and on the session.
func TestTokens(t *testing.T) {
	secret := NewSecret()
	tokens := map[[16]byte]bool{}
	for _, session := range []uint64{0, 1, 1 << 32, 1<<64 - 1} {
		tokens[NewToken(secret, session)] = true
		tokens[NewToken(NewSecret(), session)] = true
	}
	again := NewToken(secret, 1)
	if len(secret) != SecretLen || len(tokens) != 8 || !tokens[again] {
		t.Errorf("a secret of %d bytes; %d of 8 tokens differ", len(secret), len(tokens))
	}
	if a, b := NewIncarnation(), NewIncarnation(); a == b || a>>32 == 0 || uint32(a) != 0 {
		t.Errorf("the incarnations %x and %x", a, b)
	}
}
