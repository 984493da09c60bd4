package keymap

import (
	"cmp"
	"encoding/binary"
	"math/bits"
	"sync"
	"sync/atomic"
)

const (
	unitShift  = 6                      // chunks consist of units of 64 bytes
	blockShift = 20                     // chunks come from blocks of up to 1 MiB
	unitBits   = blockShift - unitShift // number of low bits of a Ref, which hold the first unit's index in its block
	unitMask   = 1<<unitBits - 1        // mask of the unit's index in a Ref
	headerLen  = 8                      // bytes before a chunk's data: next chunk and class
	// class of the largest chunks, 128 KiB, for keys of up to 65,535 bytes
	maxClass   = 17 - unitShift
	growClass  = 16 - unitShift                      // class of the largest chunks of growing strings, 64 KiB
	classes    = maxClass + 1                        // number of classes
	firstBlock = 1 << (unitShift + 8)                // 16 KiB, so that a small store stays small
	minSpare   = 32 << 20                            // minimum size of a slab that prepares blocks in advance
	MaxString  = 1<<(maxClass+unitShift) - headerLen // maximum length of a string for Store
	maxBlocks  = 1 << (32 - unitBits)                // number of blocks that a Ref can address
	MaxBytes   = maxBlocks << blockShift             // maximum Footprint, 256 GiB
)

// Ref identifies a chunk. 0 means no chunk.
type Ref uint32

func (r Ref) block() int     { return int(r >> unitBits) }
func (r Ref) offset() uint32 { return uint32(r&unitMask) << unitShift } // in bytes, from the start of the block

// Slab stores many growing byte strings in memory that it reuses. The memory contains no pointers
// for the garbage collector to follow, and a growing string is not moved. Freed memory is reused
// for strings of any size before the slab grows, so callers can limit its size.
//
// The zero value is empty. Different strings can be used concurrently, but a string can be used by
// only one goroutine at a time.
type Slab struct {
	blocks    atomic.Pointer[[][]byte] // mu must be held to replace it
	used      atomic.Int64             // bytes of chunks in use
	allocated atomic.Int64             // bytes of all blocks, including spare
	reserved  atomic.Int64             // number of blocks that Reserve has granted

	MaxBlocks int // for tests: maximum number of blocks; 0 means as many as a Ref can address

	mu          sync.Mutex
	firstUnused int          // offset of the never-used end of the last block
	free        [classes]Ref // first chunk of each class's free list
	freeBytes   int64        // bytes in the free lists
	spare       chan []byte  // yields the next block, which another goroutine prepares; may be nil
}

// Chain is a string that consists of chunks. The zero value is the empty string.
type Chain struct {
	Len          int64 // length of the string in bytes
	head, tail   Ref
	used, unused uint32 // used and unused data bytes of the last chunk
}

// Footprint returns the bytes that the slab has allocated on the heap.
func (s *Slab) Footprint() int64 { return s.allocated.Load() }

// Used returns the bytes of all chunks in use, including their unused ends.
func (s *Slab) Used() int64 { return s.used.Load() }

// Reserve reports whether n strings of the given total length in bytes are certain to fit. If so, the
// caller can append or store them and must then call Unreserve with the returned number of blocks.
// Reserve does not count on freed memory, which may be in chunks of the wrong sizes.
func (s *Slab) Reserve(n int, bytes int64) (blocks int64, fits bool) {
	// A new chunk for p bytes has at most 2p+64 bytes, or half the length of a long string (see grow).
	// Chunks that do not fit leave at most an eighth of a block unused. The first blocks are smaller.
	growth := min(int64(n)<<(growClass+unitShift), s.Used()/2)
	blocks = (4*bytes+128*int64(n)+growth)/(7<<blockShift/8) + 16
	if s.reserved.Add(blocks)+s.allocated.Load()>>blockShift > int64(cmp.Or(s.MaxBlocks, maxBlocks)) {
		s.Unreserve(blocks)
		return 0, false
	}
	return blocks, true
}

// Unreserve ends a reservation.
func (s *Slab) Unreserve(blocks int64) { s.reserved.Add(-blocks) }

// Append adds p to the end of a string.
func (s *Slab) Append(c *Chain, p []byte) {
	c.Len += int64(len(p))
	if len(p) <= int(c.unused) {
		s.fill(c, p)
		return
	}
	for {
		n := min(len(p), int(c.unused))
		s.fill(c, p[:n])
		p = p[n:]
		if len(p) == 0 {
			return
		}
		s.grow(c, len(p))
	}
}

// fill copies p to the end of the last chunk, which must have space for it.
func (s *Slab) fill(c *Chain, p []byte) {
	if len(p) > 0 {
		copy((*s.blocks.Load())[c.tail.block()][c.tail.offset()+headerLen+c.used:], p)
		c.used += uint32(len(p))
		c.unused -= uint32(len(p))
	}
}

// grow adds a chunk to a string, with space for at least one byte and preferably for n bytes. It
// prefers a chunk of at least a quarter of the string's size, so that a long string has few chunks.
func (s *Slab) grow(c *Chain, n int) {
	stored := int(c.Len - int64(n)) // Append has already counted the n bytes in Len
	size := max(n, stored/4) + headerLen
	ref, class := s.alloc(classFor(min(size, 1<<(growClass+unitShift))), true)
	if c.tail == 0 {
		c.head = ref
	} else {
		binary.LittleEndian.PutUint32(s.chunk(c.tail, 0, 4), uint32(ref))
	}
	c.tail, c.used, c.unused = ref, 0, 1<<(class+unitShift)-headerLen
}

// AppendRange appends n bytes of a string, starting at offset, to dst. The range must be valid.
func (s *Slab) AppendRange(dst []byte, c *Chain, offset, n int64) []byte {
	for ref := c.head; n > 0; {
		next, data := s.data(ref, c)
		if offset < int64(len(data)) {
			data = data[offset:min(int64(len(data)), offset+n)]
			dst = append(dst, data...)
			n -= int64(len(data))
			offset = 0
		} else {
			offset -= int64(len(data))
		}
		ref = next
	}
	return dst
}

// data returns the used bytes of a string's chunk and the next chunk.
func (s *Slab) data(ref Ref, c *Chain) (next Ref, data []byte) {
	if ref == c.tail {
		return 0, s.chunk(ref, headerLen, headerLen+c.used)
	}
	h := s.chunk(ref, 0, headerLen)
	return Ref(binary.LittleEndian.Uint32(h)), s.chunk(ref, headerLen, 1<<(uint(h[4])+unitShift))
}

// Free frees a string's memory and empties it.
func (s *Slab) Free(c *Chain) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref := c.head; ref != 0; {
		next, _ := s.data(ref, c)
		s.freeChunk(ref)
		ref = next
	}
	*c = Chain{}
}

// Store stores a string of up to MaxString bytes that does not grow.
func (s *Slab) Store(p string) Ref {
	ref, _ := s.alloc(classFor(len(p)+headerLen), false)
	copy(s.chunk(ref, headerLen, headerLen+uint32(len(p))), p)
	return ref
}

// Stored returns the n bytes of a string that Store stored.
func (s *Slab) Stored(ref Ref, n int) []byte { return s.chunk(ref, headerLen, headerLen+uint32(n)) }

// FreeString frees a string that Store stored.
func (s *Slab) FreeString(ref Ref) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.freeChunk(ref)
}

// freeChunk frees a chunk in use. mu must be held.
func (s *Slab) freeChunk(ref Ref) {
	class := int(s.chunk(ref, 0, headerLen)[4])
	s.used.Add(-1 << (class + unitShift))
	s.release(ref, class)
}

// chunk returns the bytes [from, to) of a chunk.
func (s *Slab) chunk(ref Ref, from, to uint32) []byte {
	return (*s.blocks.Load())[ref.block()][ref.offset()+from : ref.offset()+to]
}

// classFor returns the smallest class of chunks with at least size bytes. A chunk of class c has
// 64 << c bytes.
func classFor(size int) int {
	return max(bits.Len(uint(size-1)), unitShift) - unitShift
}

// release puts a chunk on its free list. mu must be held.
func (s *Slab) release(ref Ref, class int) {
	h := s.chunk(ref, 0, headerLen)
	binary.LittleEndian.PutUint32(h, uint32(s.free[class]))
	h[4] = byte(class)
	s.free[class] = ref
	s.freeBytes += 1 << (class + unitShift)
}

// alloc allocates a chunk and returns it with its class. If anySize is set and more than 1/32 of the
// slab is free, the chunk may be smaller than requested, so that the slab need not grow.
func (s *Slab) alloc(class int, anySize bool) (Ref, int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ref, class := s.find(class, anySize)
	if ref == 0 {
		ref = s.cutChunk(class)
	}
	s.used.Add(1 << (class + unitShift))
	return ref, class
}

// find takes a chunk from the free lists for alloc, splitting a larger one if necessary. If there is
// no suitable chunk, it returns 0 and the requested class. mu must be held.
func (s *Slab) find(class int, anySize bool) (Ref, int) {
	for c := class; c < classes; c++ {
		if s.free[c] != 0 {
			return s.takeChunk(c, class), class
		}
	}
	if anySize && s.freeBytes > s.allocated.Load()/32 {
		for c := class - 1; c >= 0; c-- {
			if s.free[c] != 0 {
				return s.takeChunk(c, c), c
			}
		}
	}
	return 0, class
}

// cutChunk allocates a chunk from the unused end of the last block, or from a new block. mu must be
// held.
func (s *Slab) cutChunk(class int) Ref {
	size := 1 << (class + unitShift)
	blocks := s.blocks.Load()
	if blocks == nil || s.firstUnused+size > len((*blocks)[len(*blocks)-1]) {
		s.addBlock(size)
		blocks = s.blocks.Load()
	}
	ref := Ref(len(*blocks)-1)<<unitBits | Ref(s.firstUnused>>unitShift)
	s.firstUnused += size
	s.chunk(ref, 0, headerLen)[4] = byte(class)
	return ref
}

// takeChunk takes the first chunk from the free list of freeClass and splits it until its class is
// wantedClass. mu must be held.
func (s *Slab) takeChunk(freeClass, wantedClass int) Ref {
	ref := s.free[freeClass]
	h := s.chunk(ref, 0, headerLen)
	s.free[freeClass] = Ref(binary.LittleEndian.Uint32(h))
	s.freeBytes -= 1 << (freeClass + unitShift)
	for freeClass > wantedClass {
		freeClass--
		s.release(ref+1<<freeClass, freeClass)
	}
	h[4] = byte(wantedClass)
	return ref
}

// addBlock allocates a block of at least minSize bytes. It adds the unused end of the last block to
// the free lists. mu must be held.
func (s *Slab) addBlock(minSize int) {
	var blocks [][]byte
	if old := s.blocks.Load(); old != nil {
		blocks = *old
		last := len(blocks) - 1
		for remaining := len(blocks[last]) - s.firstUnused; remaining > 0; remaining = len(blocks[last]) - s.firstUnused {
			class := min(bits.TrailingZeros(uint(s.firstUnused))-unitShift, bits.Len(uint(remaining))-1-unitShift, maxClass)
			s.release(Ref(last)<<unitBits|Ref(s.firstUnused>>unitShift), class)
			s.firstUnused += 1 << (class + unitShift)
		}
	}
	size := min(max(firstBlock, int(s.allocated.Load()), 1<<bits.Len(uint(minSize))), 1<<blockShift)
	size = 1 << (bits.Len(uint(size)) - 1)
	s.firstUnused = 0
	if len(blocks) == 0 {
		s.firstUnused = 1 << unitShift // Ref 0 means no chunk
	}
	var block []byte
	if s.spare != nil {
		block = <-s.spare
		s.spare = nil
	} else {
		block = newBlock(size)
		s.allocated.Add(int64(size))
	}
	// Readers use the old slice without mu. The new slice may share its array, because append
	// writes only past the old slice's end.
	blocks = append(blocks, block)
	s.blocks.Store(&blocks)
	if s.allocated.Load() >= minSpare {
		s.prepare()
	}
}

// prepare allocates the next block in another goroutine, because the page faults of new memory take
// longer than filling it. mu must be held.
func (s *Slab) prepare() {
	s.allocated.Add(1 << blockShift)
	spare := make(chan []byte, 1)
	s.spare = spare
	go func() { spare <- newBlock(1 << blockShift) }()
}

func newBlock(size int) []byte {
	block := make([]byte, size)
	if size == 1<<blockShift {
		populate(block)
	}
	return block
}

// Reset removes every string and releases all memory. No other operation may run.
func (s *Slab) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blocks.Store(nil)
	s.spare = nil
	s.used.Store(0)
	s.allocated.Store(0)
	s.firstUnused, s.free, s.freeBytes = 0, [classes]Ref{}, 0
}
