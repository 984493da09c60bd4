package ledger

import (
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
)

func count(records ...string) (c Count) {
	for _, r := range records {
		c.AddRecord([]byte(r))
	}
	return c
}

// TestCount checks that counts are equal if and only if they have the same records, in any order and however they are added.
func TestCount(t *testing.T) {
	want := count("a", "bc", "")
	if c := count("a"); want.Records != 3 || want.Bytes != 3 {
		t.Errorf("the count is %+v", want)
	} else if c.Add(count("", "bc")); c != want || want.Compare(c) != nil {
		t.Errorf("the sum of two counts is %+v, want %+v", c, want)
	}
	for text, c := range map[string]Count{
		"the output differs from the input: there were 3 input records, but 2 output records": count("a", "bc"),
		"": count("bc", "", "a"),
	} {
		if err := want.Compare(c); (err == nil) != (text == "") || err != nil && err.Error() != text {
			t.Errorf("the error is %v, want %q", err, text)
		}
	}
	for _, other := range []Count{count("b", "bc", ""), count("a", "cb", ""), count("a", "b", "")} {
		must.Fail(t, want.Compare(other), ErrNotVerified, "Compare of %+v with %+v", want, other)
	}
	sum := want.Sum
	sum.Sub(count("bc").Sum)
	if sum != count("a", "").Sum {
		t.Error("Sub does not undo Add")
	}
	s := Sum128{Hi: 1, Lo: 1<<64 - 1}
	if s.Add(Sum128{Lo: 1}); s != (Sum128{Hi: 2}) || s.String() != "00000000000000020000000000000000" {
		t.Errorf("with a carry, the sum is %v", s)
	}
	if s.Sub(Sum128{Lo: 1}); s != (Sum128{Hi: 1, Lo: 1<<64 - 1}) {
		t.Errorf("with a borrow, the difference is %v", s)
	}
}

// TestStoreCount checks that the division into chunks and the order of keys do not matter, and everything else does.
func TestStoreCount(t *testing.T) {
	store := func(keys ...[]string) (l StoreCount) {
		for _, k := range keys {
			for i, chunk := range k[1:] {
				l.Add(k[0], []byte(chunk), i == 0, i == len(k)-2)
			}
		}
		return l
	}
	want := store([]string{"k", "ab"}, []string{"", "cde"})
	for text, l := range map[string]StoreCount{
		"":                     store([]string{"", "c", "", "de"}, []string{"k", "a", "b"}),
		"1 keys instead of 2":  store([]string{"k", "abcde"}),
		"4 bytes instead of 5": store([]string{"k", "ab"}, []string{"", "cd"}),
		"the same number of keys and bytes, but the checksum " + new(StoreCount).Sum().String() + " instead of " + want.Sum().String(): {Keys: 2, Bytes: 5},
	} {
		if got := want.Diff(&l); got != text {
			t.Errorf("the difference is %q, want %q", got, text)
		}
	}
	for _, other := range []StoreCount{
		store([]string{"k", "ba"}, []string{"", "cde"}), store([]string{"j", "ab"}, []string{"", "cde"}),
		store([]string{"ka", "b"}, []string{"", "acde"}), store([]string{"k", "cde"}, []string{"", "ab"}),
	} {
		if want.Diff(&other) == "" {
			t.Errorf("%+v passes as %+v", other, want)
		}
	}
	var p Piece
	p.Start("a")
	p.Add([]byte("abc"))
	p.Start("k")
	p.Add([]byte("ab"))
	if one := store([]string{"k", "ab"}); p.Bytes != 2 || p.Sum() != one.sum {
		t.Errorf("a piece that was used before has %d bytes and the hash %v, want 2 and %v", p.Bytes, p.Sum(), one.sum)
	}
}
