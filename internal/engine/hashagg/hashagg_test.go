package hashagg

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/go-partd/partd/internal/disk/tempdir"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

func TestMain(m *testing.M) { procs.Main(m) }

func newTestAggregator(t *testing.T, o Options) *Aggregator {
	t.Helper()
	temp := must.Get(tempdir.New([]string{t.TempDir()}, nil))(t)
	o.Temp = temp
	a := must.Get(New(t.Context(), o))(t)
	t.Cleanup(func() { must.Do(t, errors.Join(a.Close(), temp.Close())) })
	return a
}

func sumWords(dst, src []uint64) {
	for i := range dst {
		dst[i] += src[i]
	}
}

func TestSums(t *testing.T) {
	for _, c := range []struct {
		name                  string
		memory                int64
		threads, records, mod int
		spills                bool
	}{
		{"no records", 1 << 20, 2, 0, 1, false},
		{"one thread", 1 << 20, 1, 1000, 100, false},
		{"exchanged", 8 << 20, 3, 30_000, 1000, false},
		{"partly exchanged", 3 << 20, 3, 36_000, 1_000_000, true},
		{"one thread spills", 512 << 10, 1, 50_000, 20_000, true},
		{"spilled", 3 * MinMemory, 3, 60_000, 30_000, true},
		{"partitioned again", MinMemory, 1, 160_000, 400_000, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			a := newTestAggregator(t, Options{Memory: c.memory, Threads: c.threads, Words: 2, Merge: sumWords})
			want := make(map[string][2]uint64)
			var mu sync.Mutex
			var wg sync.WaitGroup
			for n := range c.threads {
				table := must.Get(a.Table())(t) // while the other goroutines use their tables
				wg.Go(func() {
					r := rand.New(rand.NewPCG(uint64(n), 1))
					own := make(map[string][2]uint64)
					for range c.records / c.threads {
						key := fmt.Sprintf("key%d", r.IntN(c.mod))
						v := r.Uint64N(1000)
						state, isNew, err := table.Get([]byte(key))
						if !must.Check(t, err) {
							return
						}
						if isNew && (state[0] != 0 || state[1] != 0) {
							t.Error("a new state is not 0")
						}
						state[0]++
						state[1] += v
						w := own[key]
						own[key] = [2]uint64{w[0] + 1, w[1] + v}
					}
					must.Check(t, table.Close())
					mu.Lock()
					defer mu.Unlock()
					for k, w := range own {
						want[k] = [2]uint64{want[k][0] + w[0], want[k][1] + w[1]}
					}
				})
			}
			wg.Wait()
			for g, err := range a.Groups() {
				must.Do(t, err)
				if w := want[string(g.Key)]; g.State[0] != w[0] || g.State[1] != w[1] || g.Records != w[0] {
					t.Fatalf("group %q has the state %d and %d records, want %d", g.Key, g.State, g.Records, w)
				}
				delete(want, string(g.Key))
			}
			if len(want) > 0 {
				t.Errorf("%d groups are missing", len(want))
			}
			if s := a.Stats(); s.Spills > 0 != c.spills {
				t.Errorf("Stats = %+v, want spills: %v", s, c.spills)
			}
		})
	}
}

// texts implements States whose length is not limited: each is the concatenation of a key's values.
type texts struct {
	list [][]byte
	size int64
}

func (s *texts) add(words []uint64, isNew bool, v string) {
	if isNew {
		s.list = append(s.list, nil)
		words[0] = uint64(len(s.list) - 1)
	}
	s.list[words[0]] = append(s.list[words[0]], v...)
	s.size += int64(len(v))
}

func (s *texts) Append(dst []byte, words []uint64) ([]byte, error) {
	return append(dst, s.list[words[0]]...), nil
}

func (s *texts) Merge(words []uint64, isNew bool, data []byte) error {
	s.add(words, isNew, string(data))
	return nil
}

func (s *texts) Memory() int64 { return s.size + int64(cap(s.list))*24 }
func (s *texts) Reset()        { *s = texts{} }

func TestStates(t *testing.T) {
	for _, memory := range []int64{16 << 20, 2 * MinMemory} {
		for _, keys := range []uint32{10, 5000} {
			t.Run(fmt.Sprintf("%d/%d", memory, keys), func(t *testing.T) {
				a := newTestAggregator(t, Options{Memory: memory, Threads: 2, Words: 1, NewStates: func() States { return &texts{} }})
				const records = 120_000
				must.Concurrently(2, func(n int) {
					table, err := a.Table()
					if !must.Check(t, err) {
						return
					}
					for i := uint32(n); i < records; i += 2 {
						words, isNew, err := table.Get(binary.LittleEndian.AppendUint32(nil, i%keys))
						if !must.Check(t, err) {
							return
						}
						table.States().(*texts).add(words, isNew, string(binary.LittleEndian.AppendUint32(nil, i)))
					}
					must.Check(t, table.Close())
				})
				if t.Failed() {
					return
				}
				seen := make([]bool, records)
				groups := 0
				for g, err := range a.Groups() {
					must.Do(t, err)
					groups++
					v := g.States.(*texts).list[g.State[0]]
					for ; len(v) > 0; v = v[4:] {
						i := binary.LittleEndian.Uint32(v)
						if seen[i] || i%keys != binary.LittleEndian.Uint32(g.Key) {
							t.Fatalf("record %d is duplicated or in the wrong group %q", i, g.Key)
						}
						seen[i] = true
					}
				}
				if groups != int(keys) {
					t.Errorf("Groups yields %d groups, want %d", groups, keys)
				}
				for i, ok := range seen {
					if !ok {
						t.Fatalf("record %d is missing", i)
					}
				}
				if s := a.Stats(); s.Spills == 0 && memory < 1<<20 {
					t.Errorf("Stats = %+v, want at least one spill", s)
				}
			})
		}
	}
}
