package appendload

import (
	"encoding/binary"
	"fmt"
	"math"
	"math/bits"

	"github.com/zeebo/xxh3"
)

// bareFiles reads hash files with minimal work for grouping: it verifies no checksums and treats
// keys with the same hash as equal. Its speed is an upper bound for other stores.
type bareFiles struct{ *hashFiles }

type bareRef struct {
	hash    uint64 // hash of the key
	offset  uint32 // position of the key's length, which precedes the key
	dataLen uint32
}

// key returns the entry's key and the position of its value in data, which is the file's content.
func (r *bareRef) key(data []byte) (key []byte, valueAt int) {
	k, n := binary.Uvarint(data[r.offset:])
	keyAt := int(r.offset) + n
	return data[keyAt : keyAt+int(k)], keyAt + int(k)
}

func (h *bareFiles) Scan(handle func(key string, b []byte, isFirst bool) error) error {
	var out []byte
	return h.eachGroup(func(data []byte, group []bareRef) error {
		if cap(out) < cap(data) {
			out = make([]byte, cap(data))
		}
		key, _ := group[0].key(data)
		size := 0
		for i := range group {
			_, offset := group[i].key(data)
			size += copy(out[size:cap(data)], data[offset:offset+int(group[i].dataLen)])
		}
		return handle(string(key), out[:size], true)
	})
}

// eachGroup calls handle with each group of entries in a file that have the same hash. data is the
// file's content, and an entry's offset is its position in data.
func (h *hashFiles) eachGroup(handle func(data []byte, group []bareRef) error) error {
	var refs, spare []bareRef
	return h.eachFile(func(data []byte) error {
		if len(data) > math.MaxUint32 {
			return fmt.Errorf("the file is too large: %d bytes", len(data))
		}
		refs = refs[:0]
		for offset := 0; offset < len(data); {
			dataLen, n := binary.Uvarint(data[offset:])
			keyLenAt := offset + n
			keyLen, n := binary.Uvarint(data[keyLenAt:])
			keyAt := keyLenAt + n
			dataAt := keyAt + int(keyLen)
			refs = append(refs, bareRef{xxh3.Hash(data[keyAt:dataAt]), uint32(keyLenAt), uint32(dataLen)})
			offset = dataAt + int(dataLen)
		}
		if cap(spare) < len(refs) {
			spare = make([]bareRef, cap(refs))
		}
		refs, spare = sortBare(refs, spare[:len(refs)])
		for start := 0; start < len(refs); {
			end := start + 1
			for end < len(refs) && refs[end].hash == refs[start].hash {
				end++
			}
			if err := handle(data, refs[start:end]); err != nil {
				return err
			}
			start = end
		}
		return nil
	})
}

// streamedFiles reads hash files with little memory: it passes entries to handle directly from the
// file's content, without a second copy.
type streamedFiles struct{ *hashFiles }

func (h *streamedFiles) Scan(handle func(key string, b []byte, isFirst bool) error) error {
	return h.eachGroup(func(data []byte, group []bareRef) error {
		for len(group) > 0 { // usually one iteration, because keys with equal hashes rarely differ
			first, _ := group[0].key(data)
			key, isFirst := string(first), true
			others := group[:0]
			for _, r := range group {
				k, offset := r.key(data)
				if string(k) != key {
					others = append(others, r)
					continue
				}
				if err := handle(key, data[offset:offset+int(r.dataLen)], isFirst); err != nil {
					return err
				}
				isFirst = false
			}
			group = others
		}
		return nil
	})
}

// sortBare sorts refs by hash, using spare as working memory. Two passes of radix sort order them
// by the first bits after the byte that selects the file, and insertion sort does the rest.
func sortBare(refs, spare []bareRef) (sorted, unused []bareRef) {
	digitBits := max((bits.Len(uint(len(refs)))+4)/2, 4)
	for shift := 56 - 2*digitBits; shift < 56; shift += digitBits {
		starts := make([]int, 1<<digitBits+1)
		for i := range refs {
			starts[refs[i].hash>>shift&(1<<digitBits-1)+1]++
		}
		for i := 1; i < len(starts); i++ {
			starts[i] += starts[i-1]
		}
		for i := range refs {
			d := refs[i].hash >> shift & (1<<digitBits - 1)
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
