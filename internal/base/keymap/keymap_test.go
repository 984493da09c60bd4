package keymap

import (
	"bytes"
	"fmt"
	"hash/maphash"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
)

// TestMapAgainstModel compares a Map with a Go map, with good hashes and with colliding ones.
func TestMapAgainstModel(t *testing.T) {
	seed := maphash.MakeSeed()
	hashes := map[string]func(string) uint64{
		"good":               func(k string) uint64 { return Hash(seed, k) },
		"4 values":           func(k string) uint64 { return Hash(seed, k) & 3 },
		"equal lower halves": func(k string) uint64 { return Hash(seed, k) << 32 },
	}
	for name, hash := range hashes {
		t.Run(name, func(t *testing.T) { compareWithModel(t, hash) })
	}
}

func compareWithModel(t *testing.T, hash func(string) uint64) {
	rng := rand.New(rand.NewPCG(1, 1))
	var m Map[int64]
	model := map[string]int64{}
	keys := make([]string, 600)
	for i := range keys {
		keys[i] = fmt.Sprint(i) + strings.Repeat("k", rng.IntN(70)*(i%2))
	}
	keys[0], keys[1] = "", strings.Repeat("long", 16_383)+"end"
	for step := range 60_000 {
		k := keys[rng.IntN(len(keys))]
		id := m.Find(hash(k), k)
		want, ok := model[k]
		if (id != 0) != ok || ok && (*m.Val(id) != want || string(m.Key(id)) != k) {
			t.Fatalf("step %d: Find(%.20q) finds a key: %v, want %v with the right value", step, k, id != 0, ok)
		}
		switch {
		case !ok:
			*m.Val(m.Insert(hash(k), k)) = int64(step)
			model[k] = int64(step)
		case rng.IntN(2+step/20_000) == 0:
			m.Delete(id)
			delete(model, k)
		}
		if step%10_000 == 9_999 { // few keys remain, so Compact must shrink the map
			for k := range model {
				if len(model) > 20 {
					m.Delete(m.Find(hash(k), k))
					delete(model, k)
				}
			}
			before := m.Footprint()
			m.Compact()
			if m.Footprint() >= before {
				t.Fatalf("%d keys use %d bytes before Compact and %d bytes after it, want fewer", m.Len(), before, m.Footprint())
			}
		}
	}
	n := 0
	for id := range m.IDs {
		if want, ok := model[string(m.Key(id))]; !ok || want != *m.Val(id) {
			t.Fatalf("IDs yields the key %.20q, which the model does not have with this value", m.Key(id))
		}
		n++
	}
	if n != len(model) || m.Len() != n {
		t.Fatalf("IDs yields %d keys and Len = %d, want %d", n, m.Len(), len(model))
	}
}

// TestSlabAgainstModel compares strings of all sizes, which grow and are freed at random, with byte slices.
func TestSlabAgainstModel(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var s Slab
	chains := make([]Chain, 200)
	model := make([][]byte, len(chains))
	for step := range 60_000 {
		i := rng.IntN(len(chains))
		switch rng.IntN(12) {
		case 0:
			s.Free(&chains[i])
			model[i] = nil
		case 1:
			offset := int64(rng.IntN(len(model[i]) + 1))
			n := rng.Int64N(int64(len(model[i])) - offset + 1)
			want := model[i][offset : offset+n]
			if got := s.AppendRange([]byte("x"), &chains[i], offset, n); !bytes.Equal(got[1:], want) || chains[i].Len != int64(len(model[i])) {
				t.Fatalf("step %d: AppendRange of string %d from offset %d returned wrong data: %d bytes, want %d", step, i, offset, len(got)-1, len(want))
			}
		default:
			n := rng.IntN(1 << rng.IntN(13))
			if step%1000 == 0 {
				n = 300_000
			}
			p := make([]byte, n)
			for j := range p {
				p[j] = byte(rng.Uint32())
			}
			s.Append(&chains[i], p)
			model[i] = append(model[i], p...)
		}
	}
	for i := range chains {
		if got := s.AppendRange(nil, &chains[i], 0, chains[i].Len); !bytes.Equal(got, model[i]) {
			t.Fatalf("AppendRange of string %d = %d bytes that differ from the model's %d", i, len(got), len(model[i]))
		}
		s.Free(&chains[i])
	}
	if s.Used() != 0 {
		t.Errorf("Used() = %d after all strings were freed, want 0", s.Used())
	}
}

// TestSlabIsReused checks that a slab's memory stays near its maximum use while the sizes of its strings change.
func TestSlabIsReused(t *testing.T) {
	var s Slab
	const budget = 16 << 20
	for phase := range 12 {
		size := 20 << (phase * 7 % 12)
		var chains []Chain
		for s.Used() < budget {
			var c Chain
			s.Append(&c, make([]byte, size))
			chains = append(chains, c)
		}
		if s.Footprint() > budget+budget/8+2<<20 {
			t.Errorf("phase %d, strings of %d bytes: the slab has %d bytes on the heap for %d in use, want little more than the peak use", phase, size, s.Footprint(), s.Used())
		}
		for i := range chains {
			s.Free(&chains[i])
		}
	}
}

// TestSpareBlock checks that a large slab counts the block that it prepares in advance, and that Reset
// releases this block.
func TestSpareBlock(t *testing.T) {
	var s Slab
	for range 2 {
		var c Chain
		piece := bytes.Repeat([]byte("spare"), 20_000)
		want := int64(0)
		for s.Footprint() <= minSpare+4<<blockShift {
			s.Append(&c, piece)
			want += int64(len(piece))
		}
		if got := s.AppendRange(nil, &c, 0, c.Len); int64(len(got)) != want || !bytes.Equal(got, bytes.Repeat(piece, int(want)/len(piece))) {
			t.Fatalf("the string has %d bytes that differ from the %d bytes appended", len(got), want)
		}
		total := int64(0)
		for _, b := range *s.blocks.Load() {
			total += int64(len(b))
		}
		if s.spare == nil || s.Footprint() != total+1<<blockShift {
			t.Fatalf("Footprint() = %d with blocks of %d bytes, want 1 MiB more for the prepared block", s.Footprint(), total)
		}
		if s.Reset(); s.spare != nil || s.Footprint() != 0 {
			t.Fatalf("after Reset, Footprint() = %d and a block is prepared: %v; want 0 and none", s.Footprint(), s.spare != nil)
		}
	}
}

func TestSlabConcurrently(t *testing.T) {
	var s Slab
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(g), 1))
			for range 200 {
				var c Chain
				var want []byte
				for range 50 {
					p := bytes.Repeat([]byte{byte('a' + g)}, rng.IntN(3000))
					s.Append(&c, p)
					want = append(want, p...)
				}
				if got := s.AppendRange(nil, &c, 0, c.Len); !bytes.Equal(got, want) {
					t.Errorf("goroutine %d: AppendRange returned %d bytes that differ from the %d appended", g, len(got), len(want))
				}
				s.Free(&c)
			}
		})
	}
	wg.Wait()
	if s.Used() != 0 {
		t.Errorf("Used() = %d after all strings were freed, want 0", s.Used())
	}
}

// TestReserve appends strings of random sizes, concurrently and with repeated growth, to a slab with few blocks. The
// slab must have room for everything that Reserve admits. Reserve must refuse before the slab is full, but not long
// before.
func TestReserve(t *testing.T) {
	if last := Ref(maxBlocks-1) << unitBits; last.block() != maxBlocks-1 || MaxBytes != 256<<30 {
		t.Errorf("the last block has the number %d and the slab %d bytes, want %d and 256 GiB", last.block(), int64(MaxBytes), maxBlocks-1)
	}
	for _, maxSize := range []int{60, 3000, 300_000} {
		s := Slab{MaxBlocks: 40}
		var wg sync.WaitGroup
		for g := range 4 {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(maxSize), uint64(g)))
				var chains [20]Chain
				var wants [len(chains)][]byte
				for {
					pieces, total := make([][]byte, 1+rng.IntN(30)), 0
					for i := range pieces {
						pieces[i] = bytes.Repeat([]byte{byte(rng.Uint32())}, 1+rng.IntN(maxSize))
						total += len(pieces[i])
					}
					blocks, fits := s.Reserve(len(pieces), int64(total))
					if !fits {
						break
					}
					for _, p := range pieces {
						i := rng.IntN(len(chains))
						s.Append(&chains[i], p)
						wants[i] = append(wants[i], p...)
						if rng.IntN(4) == 0 {
							s.Store(string(p[:min(len(p), MaxString)]))
						}
					}
					s.Unreserve(blocks)
				}
				for i := range chains {
					if got := s.AppendRange(nil, &chains[i], 0, chains[i].Len); !bytes.Equal(got, wants[i]) {
						t.Errorf("strings of %d bytes: AppendRange returned %d bytes that differ from the %d appended", maxSize, len(got), len(wants[i]))
					}
				}
			})
		}
		wg.Wait()
		if n := len(*s.blocks.Load()); n > s.MaxBlocks || maxSize < 5000 && n < 25 {
			t.Errorf("strings of %d bytes: the slab has %d blocks when Reserve refuses, want 25 to %d", maxSize, n, s.MaxBlocks)
		}
		if s.reserved.Load() != 0 {
			t.Errorf("%d blocks are reserved at the end, want 0", s.reserved.Load())
		}
	}
}

// TestReserveGrowth checks that Reserve counts on the large chunks that short pieces can need at the end of long
// strings.
func TestReserveGrowth(t *testing.T) {
	var s Slab
	chains := make([]Chain, 400)
	for i := range chains {
		s.Append(&chains[i], make([]byte, 100_000))
		s.Append(&chains[i], make([]byte, chains[i].unused))
	}
	before := len(*s.blocks.Load())
	s.MaxBlocks = before + 17
	if _, fits := s.Reserve(len(chains), int64(len(chains))); fits {
		t.Errorf("with %d of %d blocks in use, Reserve admits %d pieces that each need a large chunk", before, s.MaxBlocks, len(chains))
	}
	s.MaxBlocks = before + 50
	if _, fits := s.Reserve(len(chains), int64(len(chains))); !fits {
		t.Fatalf("with %d of %d blocks in use, Reserve refuses", before, s.MaxBlocks)
	}
	for i := range chains {
		s.Append(&chains[i], []byte("x"))
	}
	if n := len(*s.blocks.Load()); n < before+10 || n > s.MaxBlocks {
		t.Errorf("the pieces need %d blocks, want 10 to 50", n-before)
	}
}
