package filejobs

import "github.com/go-partd/partd"

// Memory is how many bytes a command on files may take.
type Memory int64

// Block is how much is read at once.
func (m Memory) Block() int { return int(min(max(m/256, 256<<10), 1<<20)) }

// MaxRecord is the longest record, or value, that fits: a quarter.
func (m Memory) MaxRecord() int { return int(min(m/4, partd.MaxValueLen)) }

// threads is how many threads there is memory for: what they read at once takes a
// quarter of it.
func (m Memory) threads() int { return int(m)/4/m.Block() - 2 }

// engines is what the engine of a job may use: what the input, the output and the
// program itself leave.
func (m Memory) engines(threads int) int64 {
	reading := int64(2+threads) * int64(m.Block())
	return max(int64(m-m/8)-reading, int64(m/2))
}
