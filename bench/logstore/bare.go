package main

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// bareFiles reads hash files with minimal work for grouping: it verifies no checksums, and treats
// keys with the same hash as equal. It shows how fast a store could read at best.
type bareFiles struct{ *hashFiles }

type bareRef struct {
	hash    uint64 // hash of the key
	offset  uint32 // position of the key's length, which precedes the key
	dataLen uint32
}

// key returns the entry's key, and the position of its value in data, the file's content.
func (r *bareRef) key(data []byte) (key []byte, valueAt int) {
	k, n := binary.Uvarint(data[r.offset:])
	keyAt := int(r.offset) + n
	return data[keyAt : keyAt+int(k)], keyAt + int(k)
}

func (h *bareFiles) scan(handle func(key string, b []byte, isFirst bool) error) error {
	var refs, spare []bareRef
	return h.eachFile(func(data, out []byte) error {
		if len(data) > math.MaxUint32 {
			return fmt.Errorf("the file is too large: %d bytes", len(data))
		}
		refs = refs[:0]
		for offset := 0; offset < len(data); {
			v, a := binary.Uvarint(data[offset:])
			k, c := binary.Uvarint(data[offset+a:])
			keyAt := offset + a + c
			refs = append(refs, bareRef{xxh3.Hash(data[keyAt : keyAt+int(k)]), uint32(offset + a), uint32(v)})
			offset = keyAt + int(k) + int(v)
		}
		if cap(spare) < len(refs) {
			spare = make([]bareRef, cap(refs))
		}
		refs, spare = sortBare(refs, spare[:len(refs)])
		for i := 0; i < len(refs); {
			hash, size := refs[i].hash, 0
			key, _ := refs[i].key(data)
			for ; i < len(refs) && refs[i].hash == hash; i++ {
				_, offset := refs[i].key(data)
				size += copy(out[size:], data[offset:offset+int(refs[i].dataLen)])
			}
			if err := handle(string(key), out[:size], true); err != nil {
				return err
			}
		}
		return nil
	})
}

// sortBare sorts refs by hash, using spare as working memory. Two passes of radix sort order them
// by the first bits after the byte that selects the file, and insertion sort does the rest.
func sortBare(refs, spare []bareRef) (sorted, unused []bareRef) {
	digit := max((bits.Len(uint(len(refs)))+4)/2, 4)
	for shift := 56 - 2*digit; shift < 56; shift += digit {
		starts := make([]int, 1<<digit+1)
		for i := range refs {
			starts[refs[i].hash>>shift&(1<<digit-1)+1]++
		}
		for i := 1; i < len(starts); i++ {
			starts[i] += starts[i-1]
		}
		for i := range refs {
			d := refs[i].hash >> shift & (1<<digit - 1)
			spare[starts[d]] = refs[i]
			starts[d]++
		}
		refs, spare = spare, refs
	}
	for i := 1; i < len(refs); i++ {
		for j := i; j > 0 && refs[j].hash < refs[j-1].hash; j-- {
			refs[j], refs[j-1] = refs[j-1], refs[j]
		}
	}
	return refs, spare
}
