//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/database"
)

// Limits of all prepared statements. One caller may use an eighth.
const (
	maxPrepared      = 256
	maxPreparedBytes = 8 << 20
	preparedTTL      = 10 * time.Minute // since its last use
)

// statement is a caller's statement and the bucket of its unqualified names.
type statement struct{ caller, bucket, sql string }

// prepared is a parsed statement with its parameters and columns. It stays valid while its tables
// keep their columns. Each use resolves the table names again, with the rights of that call.
type prepared struct {
	statement
	names       []database.Name
	shape       [sha256.Size]byte // hash of the tables' columns when the statement was described
	description *tables.QueryDescription
	size        int
	lastUsed    time.Time
}

// preparedCache contains prepared statements, the most recently used last.
type preparedCache struct {
	mu      sync.Mutex
	entries []prepared
}

// find returns a prepared statement, and whether it was cached.
func (p *preparedCache) find(s statement) (_ prepared, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	i := p.index(s)
	if i < 0 || time.Since(p.entries[i].lastUsed) > preparedTTL {
		return prepared{statement: s}, false
	}
	st := p.entries[i]
	st.lastUsed = time.Now()
	p.entries = append(slices.Delete(p.entries, i, i+1), st)
	return st, true
}

func (p *preparedCache) index(s statement) int {
	return slices.IndexFunc(p.entries, func(st prepared) bool { return st.statement == s })
}

// keep adds or replaces a statement. It drops the least recently used ones: those of the same caller
// if that caller has too many.
func (p *preparedCache) keep(st prepared) {
	if st.lastUsed, st.size = time.Now(), st.estimateSize(); st.size > maxPreparedBytes/8 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if i := p.index(st.statement); i >= 0 {
		p.entries = slices.Delete(p.entries, i, i+1)
	}
	p.entries = append(p.entries, st)
	p.limit(maxPrepared/8, maxPreparedBytes/8, func(other prepared) bool { return other.caller == st.caller })
	p.limit(maxPrepared, maxPreparedBytes, func(other prepared) bool { return true })
}

// limit drops the oldest statements for which matches returns true, until at most count statements and
// the given bytes remain.
func (p *preparedCache) limit(count, bytes int, matches func(prepared) bool) {
	for i, st := range slices.Backward(p.entries) {
		if !matches(st) {
			continue
		}
		count--
		bytes -= st.size
		if count < 0 || bytes < 0 || time.Since(st.lastUsed) > preparedTTL {
			p.entries = slices.Delete(p.entries, i, i+1)
		}
	}
}

// size returns the approximate size of a statement, in bytes.
func (p prepared) estimateSize() int {
	const fixed, name = 512, 128
	n := fixed + len(p.caller) + len(p.bucket) + len(p.sql) + name*len(p.names)
	if d := p.description; d != nil {
		n += 4 * (len(d.Result.String()) + len(d.Parameters.String()))
	}
	return n
}

// shapeOf returns a hash of the tables' names and columns.
func shapeOf(tables []*boundTable) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, t := range tables {
		_, _ = h.Write([]byte(t.emptyView() + ";\n")) // never fails
	}
	return [sha256.Size]byte(h.Sum(sum[:0]))
}
