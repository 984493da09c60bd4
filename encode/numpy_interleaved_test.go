package encode

import (
	"context"
	"fmt"
	"testing"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// interleaved calls another writer once: before its first SetOnce, or after its first Get.
type interleaved struct {
	*partd.Dict
	beforeSetOnce, afterGet func()
}

func callOnce(f *func()) {
	if other := *f; other != nil {
		*f = nil
		other()
	}
}

func (s *interleaved) SetOnce(ctx context.Context, key string, value []byte) error {
	callOnce(&s.beforeSetOnce)
	return s.Dict.SetOnce(ctx, key, value)
}

func (s *interleaved) Get(ctx context.Context, keys ...string) ([][]byte, error) {
	defer callOnce(&s.afterGet)
	return s.Dict.Get(ctx, keys...)
}

// TestWritersBeginOneKey begins a key in two writers at the same time. If their types differ, the later writer must
// fail, because an array has one dtype. If the types are equal, both must succeed.
func TestWritersBeginOneKey(t *testing.T) {
	appendInts := func(p partd.Partd) error {
		return NewNumPy[int32](p).Append(t.Context(), Entry[[]int32]{"k", []int32{1, 2}})
	}
	appendFloats := func(p partd.Partd) error {
		return NewNumPy[float64](p).Append(t.Context(), Entry[[]float64]{"k", []float64{3}})
	}
	setFloats := func(p partd.Partd) error { return NewNumPy[float64](p).Set(t.Context(), "k", []float64{3}) }
	appendFrame := func(values any) func(p partd.Partd) error {
		return func(p partd.Partd) error {
			d := DataFrame{Columns: []Column{{"x", values}}}
			return NewPandasColumns(p, nil).Append(t.Context(), Entry[DataFrame]{"k", d})
		}
	}
	intFrame, floatFrame := appendFrame([]int64{1, 2}), appendFrame([]float64{3})
	for _, c := range []struct {
		name          string
		first, second func(p partd.Partd) error
		equal         bool
	}{
		{"NumPy, equal types", appendInts, appendInts, true},
		{"NumPy, other types", appendInts, appendFloats, false},
		{"NumPy, other types, Set", appendInts, setFloats, false},
		{"PandasColumns, equal types", intFrame, intFrame, true},
		{"PandasColumns, other types", intFrame, floatFrame, false},
	} {
		for _, moment := range []string{"before SetOnce", "after Get"} {
			s := &interleaved{Dict: partd.NewDict()}
			other := func() {
				must.Check(t, c.first(s.Dict))
			}
			if moment == "after Get" {
				s.afterGet = other
			} else {
				s.beforeSetOnce = other
			}
			label := fmt.Sprintf("%s, %s", c.name, moment)
			if err := c.second(s); (err == nil) != c.equal {
				t.Errorf("%s: the second writer got %v, want an error: %v", label, err, !c.equal)
			}
			if s.afterGet != nil || s.beforeSetOnce != nil {
				t.Errorf("%s: the other writer did not run", label)
			}
			want := 2
			if c.equal {
				want = 4
			}
			n := 0
			if d, err := NewPandasColumns(s.Dict, nil).Get(t.Context(), "k"); err != nil {
				t.Errorf("%s: %v", label, err)
			} else if len(d.Columns) > 0 {
				n = len(d.Columns[0].Values.([]int64))
			} else if a, err := NewNumPy[int32](s.Dict).Get(t.Context(), "k"); err != nil {
				t.Errorf("%s: %v", label, err)
			} else {
				n = len(a[0])
			}
			if n != want {
				t.Errorf("%s: the key holds %d elements, want %d", label, n, want)
			}
		}
	}
}

// TestNumPyAfterDrop checks that an array that begins again after Drop or Delete has its dtype in the store, and that
// the keys of dtypes are not listed.
func TestNumPyAfterDrop(t *testing.T) {
	d := partd.NewDict()
	n := NewNumPy[int32](d)
	for _, removal := range []func() error{
		func() error { return nil },
		func() error { return n.Drop(t.Context()) },
		func() error { return n.Delete(t.Context(), "k") },
		func() error { _, err := n.Pop(t.Context(), "k"); return err },
	} {
		must.Do(t, removal())
		must.Do(t, n.Append(t.Context(), Entry[[]int32]{"k", []int32{1, 2}}))
		if a, err := NewNumPy[int32](d).Get(t.Context(), "k"); err != nil || len(a[0]) != 2 {
			t.Errorf("another reader gets %v, %v, want two elements", a, err)
		}
		var keys []string
		for info, err := range n.Keys(t.Context()) {
			must.Do(t, err)
			keys = append(keys, info.Key)
		}
		if len(keys) != 1 || keys[0] != "k" {
			t.Errorf("the keys are %q, want only k", keys)
		}
	}
}
