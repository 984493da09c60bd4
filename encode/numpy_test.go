package encode

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// put sets keys, each followed by its value.
func put(t *testing.T, inner partd.Partd, keyValue ...string) {
	t.Helper()
	for pair := range slices.Chunk(keyValue, 2) {
		must.Do(t, partd.Set(ctx, inner, pair[0], []byte(pair[1])))
	}
}

// readBoth reads a key with Get and with All, which must agree.
func readBoth[T Element](t *testing.T, n *NumPy[T], key string) ([]T, error) {
	t.Helper()
	got, err := n.Get(ctx, key)
	var all []T
	var allErr error
	for part, err := range n.All(ctx, key) {
		all, allErr = append(all, part...), err
	}
	if (err == nil) != (allErr == nil) || err == nil && fmt.Sprint(got[0]) != fmt.Sprint(all) {
		t.Fatalf("Get = %v, %v, but All yields %v, %v", got, err, all, allErr)
	}
	if err != nil {
		return nil, err
	}
	return got[0], nil
}

func TestNumPyErrors(t *testing.T) {
	inner := partd.NewDict()
	ints, floats, texts := NewNumPy[int64](inner), NewNumPy[float64](inner), NewNumPy[string](inner)
	must.Do(t, ints.Append(ctx, Entry[[]int64]{"ints", []int64{1}}))
	put(t, inner, "odd.dtype", "<i8", "odd", "123456789012", "none.dtype", "no dtype", "none", "12345678",
		"empty.dtype", "", "empty", "12345678", "records.dtype", "[('a', '<i8')]", "records", "12345678",
		"bare", "12345678",
		"cut.dtype", "|O", "cut", "\x02\x00\x00\x00\x00\x00\x00\x00\x91",
		"pickled.dtype", "|O", "pickled", "\x16\x00\x00\x00\x00\x00\x00\x00](\x8c\x02os\x8c\x06system\x93\x8c\x01A\x85Re.")
	for _, c := range []struct {
		name, key, want string
		read            func(key string) error
		dtype           bool
	}{
		{"dtype of another kind", "ints", "holds <i8, but float64 is <f8", reader(t, floats), true},
		{"dtype without objects", "ints", "holds <i8, but string is |O", reader(t, texts), true},
		{"partial element", "odd", "12 bytes are not a multiple of 8", reader(t, ints), false},
		{"invalid dtype", "none", `"no dtype" is not a supported dtype`, reader(t, ints), true},
		{"empty dtype", "empty", "its .dtype key is missing", reader(t, ints), true},
		{"records", "records", "records, which is not supported", reader(t, ints), true},
		{"missing dtype", "bare", "its .dtype key is missing", reader(t, ints), true},
		{"truncated", "cut", "truncated", reader(t, texts), false},
		{"pickled call", "pickled", `"system" from the module "os"`, reader(t, texts), false},
		{"key of a dtype", "ints.dtype", "reserved for dtypes", reader(t, ints), false},
	} {
		err := c.read(c.key)
		var e *partd.Error
		if !errors.As(err, &e) || e.Key != c.key || !strings.Contains(err.Error(), c.want) || errors.Is(err, ErrDtype) != c.dtype {
			t.Errorf("%s: reading = %v, want an error with %q, ErrDtype: %t", c.name, err, c.want, c.dtype)
		}
	}
	before := contents(t, inner)
	for want, err := range map[string]error{
		"holds <i8":           floats.Append(ctx, Entry[[]float64]{"new", []float64{1}}, Entry[[]float64]{"ints", []float64{1}}),
		"holds <i8, bu":       floats.Set(ctx, "ints", []float64{1}),
		"key is missing":      ints.Append(ctx, Entry[[]int64]{"bare", []int64{1}}),
		"reserved for ":       errors.Join(ints.Append(ctx, Entry[[]int64]{"a.dtype", []int64{1}}), ints.Set(ctx, "a.dtype", nil)),
		"reserved for dtypes": ints.Delete(ctx, "ints", ".dtype"),
		"is not valid UTF-8":  texts.Append(ctx, Entry[[]string]{"texts", []string{"a", "\xff"}}),
		"from 1677-":          NewNumPy[time.Time](inner).Append(ctx, Entry[[]time.Time]{"times", []time.Time{time.Unix(1<<40, 0)}}),
	} {
		must.Fail(t, err, want, "a refused operation")
	}
	// The refused Append of two keys may leave only the dtype of the first key.
	after := contents(t, inner)
	after = slices.DeleteFunc(after, func(s string) bool { return s == "new.dtype=<f8" })
	if !slices.Equal(before, after) {
		t.Errorf("refused operations changed the store from\n%q to\n%q", before, after)
	}
	// Delete removes the data that Python's delete leaves.
	must.Do(t, ints.Delete(ctx, "bare", "odd", "none"))
	must.Do(t, ints.Append(ctx, Entry[[]int64]{"bare", []int64{7}}))
	if got, err := readBoth(t, ints, "bare"); err != nil || !slices.Equal(got, []int64{7}) {
		t.Errorf("after Delete and Append, the array is %v, %v, want [7]", got, err)
	}
}

func reader[T Element](t *testing.T, n *NumPy[T]) func(string) error {
	return func(key string) error {
		_, err := readBoth(t, n, key)
		return err
	}
}

// contents returns all keys and values of a store, sorted.
func contents(t *testing.T, p partd.Partd) (all []string) {
	t.Helper()
	for info, err := range partd.Keys(ctx, p) {
		must.Do(t, err)
		value := must.Get(p.Get(ctx, info.Key))(t)
		all = append(all, info.Key+"="+string(value[0]))
	}
	slices.Sort(all)
	return all
}

func TestNumPyRemovesBothKeys(t *testing.T) {
	inner := partd.NewDict()
	n := NewNumPy[int16](inner)
	fill := func() { must.Do(t, n.Append(ctx, Entry[[]int16]{"a", []int16{1, 2}}, Entry[[]int16]{"b", []int16{3}})) }
	fill()
	var keys []string
	for info, err := range n.Keys(ctx) {
		must.Do(t, err)
		keys = append(keys, fmt.Sprint(info.Key, info.Size))
	}
	if slices.Sort(keys); fmt.Sprint(keys) != "[a4 b2]" {
		t.Errorf("Keys yields %v, want a with 4 bytes and b with 2", keys)
	}
	for range n.Keys(ctx) {
		break
	}
	must.Do(t, n.Delete(ctx, "a", "nothing"))
	if got := fmt.Sprint(contents(t, inner)); got != "[b.dtype=<i2 b=\x03\x00]" {
		t.Errorf("after Delete, the store has %q, want only the array b", got)
	}
	fill()
	got, err := n.Pop(ctx, "b", "a")
	if err != nil || fmt.Sprint(got) != "[[3 3] [1 2]]" || len(contents(t, inner)) > 0 {
		t.Errorf("Pop = %v, %v, and the store still has %q", got, err, contents(t, inner))
	}
	// A removed key may get another type.
	must.Do(t, NewNumPy[float32](inner).Append(ctx, Entry[[]float32]{"a", []float32{1}}))
	must.Fail(t, n.Append(ctx, Entry[[]int16]{"a", []int16{1}}), ErrDtype, "Append to a key of another type")
	must.Do(t, n.Drop(ctx))
	must.Do(t, n.Append(ctx, Entry[[]int16]{"none", nil}))
	must.Do(t, n.Set(ctx, "set", nil))
	if got := contents(t, inner); fmt.Sprint(got) != "[set=]" {
		t.Errorf("after appending and setting empty arrays, the store has %q, want only the set key", got)
	}
	put(t, inner, "bad", "123", "bad.dtype", "<i2")
	_, err = n.Pop(ctx, "bad")
	var pop *PopError
	if !errors.As(err, &pop) || fmt.Sprintf("%q", pop.Values) != `["123" "<i2"]` {
		t.Errorf("Pop of a damaged array = %v, want a PopError with the data and the dtype", err)
	}
}

// failingStore fails after a number of writes, as if the process were killed during an operation.
type failingStore struct {
	*partd.Dict
	writes int // number of writes that will still succeed
}

var errCut = errors.New("no more writes")

func (s *failingStore) write(do func() error) error {
	if s.writes--; s.writes < 0 {
		return errCut
	}
	return do()
}

func (s *failingStore) Append(ctx context.Context, entries ...partd.Entry) error {
	return s.write(func() error { return s.Dict.Append(ctx, entries...) })
}

func (s *failingStore) Set(ctx context.Context, key string, value []byte) error {
	return s.write(func() error { return s.Dict.Set(ctx, key, value) })
}

func (s *failingStore) SetOnce(ctx context.Context, key string, value []byte) error {
	return s.write(func() error { return s.Dict.SetOnce(ctx, key, value) })
}

func (s *failingStore) Delete(ctx context.Context, keys ...string) error {
	return s.write(func() error { return s.Dict.Delete(ctx, keys...) })
}

// TestNumPyInterruptedAtEveryWrite checks that if an operation is interrupted at any write, each key has either its old
// or its new elements.
func TestNumPyInterruptedAtEveryWrite(t *testing.T) {
	for name, op := range map[string]func(*NumPy[int32]) error{
		"append": func(n *NumPy[int32]) error {
			return n.Append(ctx, Entry[[]int32]{"new", []int32{1}}, Entry[[]int32]{"old", []int32{2}}, Entry[[]int32]{"also", []int32{3}})
		},
		"set":    func(n *NumPy[int32]) error { return n.Set(ctx, "new", []int32{1}) },
		"delete": func(n *NumPy[int32]) error { return n.Delete(ctx, "old", "new") },
	} {
		for writes := 0; ; writes++ {
			store := &failingStore{partd.NewDict(), 1 << 30}
			must.Do(t, NewNumPy[int32](store).Append(ctx, Entry[[]int32]{"old", []int32{9}}))
			store.writes = writes
			err := op(NewNumPy[int32](store))
			store.writes = 1 << 30
			after := fmt.Sprint(arraysOf(t, store, "new", "old", "also"))
			wantArrays := map[string]string{"append": "[[1] [9 2] [3]]", "set": "[[1] [9] []]", "delete": "[[] [] []]"}[name]
			if err != nil && after != "[[] [9] []]" || err == nil && after != wantArrays {
				t.Errorf("%s, interrupted after %d writes: error %v and the arrays %s, want the old or the new elements", name, writes, err, after)
			}
			// The keys must remain usable.
			must.Do(t, NewNumPy[int32](store).Append(ctx, Entry[[]int32]{"new", []int32{5}}))
			if err == nil {
				break
			}
			if !must.Fail(t, err, errCut, "%s, interrupted after %d writes", name, writes) {
				break
			}
		}
	}
}

func arraysOf(t *testing.T, store partd.Partd, keys ...string) [][]int32 {
	t.Helper()
	return must.Get(NewNumPy[int32](store).Get(ctx, keys...))(t)
}

// TestNumPyConcurrently checks that with concurrent changes, reads return whole appends, and data always has a dtype.
func TestNumPyConcurrently(t *testing.T) {
	n := NewNumPy[int64](partd.NewDict())
	must.Concurrently(4, func(w int) {
		for i := range 300 {
			key := fmt.Sprint(i % 3)
			if !must.Check(t, n.Append(ctx, Entry[[]int64]{key, []int64{int64(w), int64(w)}})) {
				return
			}
			if i%10 == w {
				must.Check(t, n.Delete(ctx, key))
			}
			if i%50 == w {
				_, err := n.Pop(ctx, key)
				must.Check(t, err)
			}
			got, err := n.Get(ctx, key)
			if !must.Check(t, err) {
				return
			}
			for j := 0; j < len(got[0]); j += 2 {
				if got[0][j] != got[0][j+1] {
					t.Errorf("Get returned a part of an append: %v", got[0])
				}
			}
		}
	})
}

func TestNumPyLimitsCachedDtypes(t *testing.T) {
	n := NewNumPy[uint8](partd.NewDict())
	batch := make([]Entry[[]uint8], 3000)
	for round := range maxCachedDtypes/len(batch) + 2 {
		for i := range batch {
			batch[i] = Entry[[]uint8]{fmt.Sprint(round, i), []uint8{1}}
		}
		must.Do(t, n.Append(ctx, batch...))
	}
	if len(n.cachedDtypes) > maxCachedDtypes {
		t.Errorf("%d dtypes are cached, want at most %d", len(n.cachedDtypes), maxCachedDtypes)
	}
}
