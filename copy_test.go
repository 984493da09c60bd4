package partd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/testutil/must"
)

// tamperingStore is a target that changes entries before it stores them, or fails.
type tamperingStore struct {
	*partd.Dict
	tamper  func([]partd.Entry) []partd.Entry
	err     error
	largest int // bytes of the largest append
}

func (s *tamperingStore) Append(ctx context.Context, entries ...partd.Entry) error {
	size := 0
	for _, e := range entries {
		size += len(e.Value)
	}
	s.largest = max(s.largest, size)
	if s.err != nil {
		return s.err
	}
	if s.tamper != nil {
		entries = s.tamper(entries)
	}
	return s.Dict.Append(ctx, entries...)
}

func twoKeys(t *testing.T) partd.Partd {
	t.Helper()
	d := partd.NewDict()
	must.Do(t, d.Append(t.Context(), partd.Entry{Key: "a", Value: []byte("1111")}, partd.Entry{Key: "b", Value: []byte("2222")}))
	return d
}

// TestCopy checks copies of empty values, of values larger than an append, and of many small values in one append.
func TestCopy(t *testing.T) {
	source, target := partd.NewDict(), &tamperingStore{Dict: partd.NewDict()}
	want := map[string][]byte{"": []byte("x"), "empty": {}, "large": bytes.Repeat([]byte("0123456789"), 30_000), strings.Repeat("k", partd.MaxKeyLen): []byte("y")}
	r := rand.New(rand.NewPCG(1, 2))
	total := int64(0)
	for i := range 20_000 {
		want[fmt.Sprint(i)] = bytes.Repeat([]byte{byte(i)}, r.IntN(40))
	}
	for key, value := range want {
		total += int64(len(value))
		must.Do(t, errors.Join(source.SetOnce(t.Context(), key, nil), source.Append(t.Context(), partd.Entry{Key: key, Value: value})))
	}
	var stages []partd.CopyStage
	lastBytes := int64(-1)
	result, err := partd.Copy(t.Context(), target, source, &partd.CopyOptions{BatchBytes: 64 << 10, Progress: func(s partd.CopyStage, bytes int64) {
		if lastBytes = bytes; len(stages) == 0 || stages[len(stages)-1] != s {
			stages = append(stages, s)
		}
	}})
	if err != nil || result.Keys != int64(len(want)) || result.Bytes != total || !result.Changed || len(result.Sum.String()) != 32 {
		t.Fatalf("Copy = %+v, %v, want %d keys and %d bytes", result, err, len(want), total)
	}
	if lastBytes != total || !slices.Equal(stages, []partd.CopyStage{partd.CopyFilling, partd.CopyFlushing, partd.CopyComparing}) {
		t.Errorf("Progress was called with stages %v, and last with %d bytes, want all stages and %d bytes", stages, lastBytes, total)
	}
	if target.largest > 64<<10 {
		t.Errorf("the largest append has %d bytes, want at most 64 KiB", target.largest)
	}
	n := 0
	for chunk, err := range partd.Scan(t.Context(), target) {
		if n++; err != nil || !bytes.Equal(chunk.Data, want[chunk.Key]) {
			t.Fatalf("the copy of key %.20q has %d bytes, error %v, want %d bytes as in the source", chunk.Key, len(chunk.Data), err, len(want[chunk.Key]))
		}
	}
	if n != len(want) {
		t.Errorf("the target has %d keys, want %d", n, len(want))
	}
}

// TestCopyFindsDamage checks that Copy fails if the target loses or changes data, or if another program writes to it.
func TestCopyFindsDamage(t *testing.T) {
	for name, c := range map[string]struct {
		tamper func([]partd.Entry) []partd.Entry
		want   string
	}{
		"lost":       {func(e []partd.Entry) []partd.Entry { return e[1:] }, "holds 1 keys instead of 2"},
		"duplicated": {func(e []partd.Entry) []partd.Entry { return append(e, e[0]) }, "holds 12 bytes instead of 8"},
		"swapped": {func(e []partd.Entry) []partd.Entry {
			return []partd.Entry{{Key: e[0].Key, Value: e[1].Value}, {Key: e[1].Key, Value: e[0].Value}}
		}, "the same number of keys and bytes"},
		"changed": {func(e []partd.Entry) []partd.Entry {
			value := bytes.Clone(e[0].Value)
			value[2] ^= 4
			return []partd.Entry{{Key: e[0].Key, Value: value}, e[1]}
		}, "the same number of keys and bytes"},
		"another writer": {func(e []partd.Entry) []partd.Entry { return append(e, partd.Entry{Key: "c", Value: []byte("3")}) }, "holds 3 keys instead of 2"},
	} {
		target := &tamperingStore{Dict: partd.NewDict(), tamper: c.tamper}
		result, err := partd.Copy(t.Context(), target, twoKeys(t), nil)
		if !errors.Is(err, partd.ErrCopyDiffers) || !strings.Contains(err.Error(), "the target ") || !strings.Contains(err.Error(), c.want) || !result.Changed {
			t.Errorf("%s: Copy = %v, error %v, want ErrCopyDiffers with %q", name, result, err, c.want)
		}
	}
}

// TestCopyAppend checks that a target with keys requires CopyOptions.Append, and that Copy then counts the added bytes.
func TestCopyAppend(t *testing.T) {
	target := &tamperingStore{Dict: partd.NewDict()}
	must.Do(t, target.Append(t.Context(), partd.Entry{Key: "b", Value: []byte("old")}))
	if result, err := partd.Copy(t.Context(), target, twoKeys(t), nil); err == nil || result.Changed || errors.Is(err, partd.ErrCopyDiffers) {
		t.Errorf("Copy to a target with keys = %v, error %v, want an error and no change", result, err)
	}
	o := &partd.CopyOptions{Append: true, To: "T"}
	if result, err := partd.Copy(t.Context(), target, twoKeys(t), o); err != nil || result.Keys != 2 {
		t.Errorf("Copy with Append = %v, %v, want 2 keys", result, err)
	}
	if values, err := target.Get(t.Context(), "a", "b"); err != nil || string(values[0]) != "1111" || string(values[1]) != "old2222" {
		t.Errorf("Get(a, b) after Copy with Append = %q, %v, want 1111 and old2222", values, err)
	}
	target.tamper = func(e []partd.Entry) []partd.Entry { return e[1:] }
	_, err := partd.Copy(t.Context(), target, twoKeys(t), o)
	if !errors.Is(err, partd.ErrCopyDiffers) || !strings.HasPrefix(err.Error(), "8 bytes were copied, but the store T has grown by 4 bytes") {
		t.Errorf("Copy to a target that loses an entry: error %v, want ErrCopyDiffers with the bytes", err)
	}
}

// TestCopyFails checks that errors name the failed store, and that CopyResult.Changed is correct.
func TestCopyFails(t *testing.T) {
	broken := errors.New("it broke")
	if result, err := partd.Copy(t.Context(), &tamperingStore{Dict: partd.NewDict(), err: broken}, twoKeys(t), nil); !errors.Is(err, broken) || !result.Changed {
		t.Errorf("Copy to a failing target = %v, error %v, want %v and Changed", result, err, broken)
	}
	closed := partd.NewDict()
	must.Do(t, closed.Close())
	result, err := partd.Copy(t.Context(), partd.NewDict(), closed, &partd.CopyOptions{From: "S"})
	if !errors.Is(err, partd.ErrClosed) || !strings.HasPrefix(err.Error(), "reading S: ") || result.Changed {
		t.Errorf("Copy from a closed store = %v, error %v, want ErrClosed and no change", result, err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := partd.Copy(ctx, partd.NewDict(), twoKeys(t), nil); !errors.Is(err, context.Canceled) {
		t.Errorf("Copy with a canceled context: error %v, want Canceled", err)
	}
}

// batcher is a Dict that recommends a size of appends.
type batcher struct {
	*partd.Dict
	size int
}

func (b batcher) BatchBytes() int { return b.size }

// TestCopyToUselessBatcher checks copies to stores that recommend appends of 0 or fewer bytes, or of 1.
func TestCopyToUselessBatcher(t *testing.T) {
	for _, size := range []int{-1, 0, 1} {
		target := batcher{partd.NewDict(), size}
		if got := partd.BatchBytes(target); got <= 0 || (got == size) != (size > 0) {
			t.Errorf("BatchBytes of a store that recommends %d = %d, want a recommendation above 0", size, got)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		must.Get(partd.Copy(ctx, target, twoKeys(t), nil))(t)
		cancel()
		if got := must.Get(target.Get(t.Context(), "a", "b"))(t); string(got[0])+string(got[1]) != "11112222" {
			t.Errorf("size %d: the copies are %q", size, got)
		}
	}
}
