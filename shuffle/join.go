package shuffle

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"reflect"
	"unsafe"

	"github.com/go-partd/partd/encode"
	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/engine/extsort"
	"github.com/go-partd/partd/internal/engine/mergejoin"
)

// JoinKind selects the rows that a join yields.
type JoinKind uint8

// The kinds of joins.
const (
	InnerJoin = JoinKind(mergejoin.Inner) // pairs of records with the same key
	LeftJoin  = JoinKind(mergejoin.Left)  // pairs and also left records without a match
	RightJoin = JoinKind(mergejoin.Right) // pairs and also right records without a match
	FullJoin  = JoinKind(mergejoin.Full)  // pairs and also records of both sides without a match
	SemiJoin  = JoinKind(mergejoin.Semi)  // left records with a match, each once
	AntiJoin  = JoinKind(mergejoin.Anti)  // left records without a match
)

// JoinOptions are the options for a join; see also [Options]. The zero value and nil mean an inner
// join with the defaults.
type JoinOptions[L, R any] struct {
	Kind     JoinKind
	Memory   int64
	Threads  int
	TempDirs []string
	Left     encode.ValueCodec[L]
	Right    encode.ValueCodec[R]
}

// Joined is a row of a join.
type Joined[L, R any] struct {
	Left              L
	Right             R
	HasLeft, HasRight bool // false if the row has no record of that side
}

// Join yields each pair of a left and a right record that have the same key. The Kind option
// selects other rows, such as records without a match. Rows are in no particular order. Both sides,
// and even the records of a single key, can be larger than memory. Keys are equal if their default
// encodings are equal. If K is a pointer, nil matches nothing, like SQL's NULL. Records are newly
// decoded for each row.
func Join[L, R, K any](ctx context.Context, left iter.Seq2[L, error], right iter.Seq2[R, error], leftKey func(L) K, rightKey func(R) K, o *JoinOptions[L, R]) iter.Seq2[Joined[L, R], error] {
	start := func() (*Joiner[L, R, K], error) { return NewJoiner(ctx, leftKey, rightKey, o) }
	return pipe(left, start, (*Joiner[L, R, K]).FeedLeft, func(j *Joiner[L, R, K]) iter.Seq2[Joined[L, R], error] {
		return func(yield func(Joined[L, R], error) bool) {
			if err := feedAll(j.FeedRight, right); err != nil {
				yield(Joined[L, R]{}, err)
				return
			}
			j.Rows()(yield)
		}
	})
}

// Joiner joins the records fed to it.
type Joiner[L, R, K any] struct {
	ctx         context.Context
	opts        mergejoin.Options
	left, right *extsort.Sorter
	leftCodec   encode.ValueCodec[L]
	rightCodec  encode.ValueCodec[R]
	leftKey     func(dst []byte, v L) ([]byte, error)
	rightKey    func(dst []byte, v R) ([]byte, error)
	temp        *tempdir.Set
}

// NewJoiner returns a joiner. The caller must close it.
func NewJoiner[L, R, K any](ctx context.Context, leftKey func(L) K, rightKey func(R) K, o *JoinOptions[L, R]) (*Joiner[L, R, K], error) {
	opts := *cmp.Or(o, new(JoinOptions[L, R]))
	switch {
	case leftKey == nil || rightKey == nil:
		return nil, argumentErrorf("a key function is nil: pass a function for each side")
	case opts.Kind > AntiJoin:
		return nil, argumentErrorf("option Kind is %d: there is no such join", opts.Kind)
	}
	appendKey, err := newJoinKey[K]()
	if err != nil {
		return nil, err
	}
	right, err := (&Options[R]{Codec: opts.Right}).codec()
	if err != nil {
		return nil, err
	}
	c, err := (&Options[L]{Memory: opts.Memory, Threads: opts.Threads, TempDirs: opts.TempDirs, Codec: opts.Left}).resolve()
	if err != nil {
		return nil, err
	}
	j := &Joiner[L, R, K]{ctx: ctx, leftCodec: c.Codec, rightCodec: right, temp: c.temp}
	j.leftKey = func(dst []byte, v L) ([]byte, error) { return appendKey(dst, leftKey(v)) }
	j.rightKey = func(dst []byte, v R) ([]byte, error) { return appendKey(dst, rightKey(v)) }
	j.opts = mergejoin.Options{Kind: mergejoin.Kind(opts.Kind), MatchEmpty: reflect.TypeFor[K]().Kind() != reflect.Pointer, Memory: c.Memory / 8, Temp: c.temp}
	sorting := &extsort.Options{Memory: c.Memory * 7 / 16, Threads: c.Threads, Temp: c.temp, KeepKeys: true}
	j.left, err = extsort.New(ctx, sorting)
	if err == nil {
		j.right, err = extsort.New(ctx, sorting)
	}
	if err != nil {
		return nil, errors.Join(err, j.Close())
	}
	return j, nil
}

// newJoinKey returns a function that appends the encoding of a key. If K is a pointer, the key is the
// value pointed to, and only the encoding of nil is empty.
func newJoinKey[K any]() (func(dst []byte, k K) ([]byte, error), error) {
	t := reflect.TypeFor[K]()
	if t.Kind() != reflect.Pointer {
		keys, err := newKeyCodec[K]()
		return keys.Encode, err
	}
	elem, err := newPlan(t.Elem(), true)
	if err != nil {
		return nil, keyTypeError(t, err)
	}
	return func(dst []byte, k K) ([]byte, error) {
		target := *(*unsafe.Pointer)(unsafe.Pointer(&k))
		if target == nil {
			return dst, nil
		}
		return elem.encode(append(dst, 1), target)
	}, nil
}

// FeedLeft returns a feed for records of the left side. Any number of feeds may be open,
// on both sides.
func (j *Joiner[L, R, K]) FeedLeft() (*Feed[L], error) {
	return joinFeed(orZero(j.left), j.leftKey, j.leftCodec)
}

// FeedRight returns a feed for records of the right side.
func (j *Joiner[L, R, K]) FeedRight() (*Feed[R], error) {
	return joinFeed(orZero(j.right), j.rightKey, j.rightCodec)
}

func joinFeed[T any](sorter *extsort.Sorter, appendKey func([]byte, T) ([]byte, error), codec encode.ValueCodec[T]) (*Feed[T], error) {
	w, err := sorter.Writer()
	if err != nil {
		return nil, err
	}
	return newFeed(nil, appendKey, codec.Encode, w.Add, w.Close), nil
}

// Rows yields the rows. Close all feeds before calling it. Call it once.
func (j *Joiner[L, R, K]) Rows() iter.Seq2[Joined[L, R], error] {
	return func(yield func(Joined[L, R], error) bool) {
		_, err := mergejoin.Join(j.ctx, orZero(j.left), orZero(j.right), j.opts, func(left, right []byte) error {
			row := Joined[L, R]{HasLeft: left != nil, HasRight: right != nil}
			var err error
			if row.HasLeft {
				row.Left, err = j.leftCodec.Decode(left)
			}
			if row.HasRight && err == nil {
				row.Right, err = j.rightCodec.Decode(right)
			}
			if err != nil {
				return errorf("decoding a record: %w", err)
			}
			if !yield(row, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(Joined[L, R]{}, err)
		}
	}
}

// Close stops the join and removes all temporary data. No feed and no loop over Rows may
// be in use.
func (j *Joiner[L, R, K]) Close() error {
	var err error
	for _, s := range []*extsort.Sorter{j.left, j.right} {
		if s != nil {
			err = errors.Join(err, s.Close())
		}
	}
	return errors.Join(err, j.temp.Close())
}
