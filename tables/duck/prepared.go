//go:build (cgo && (linux || darwin) && (amd64 || arm64)) || (cgo && windows && amd64)

package duck

import (
	"crypto/sha256"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/sql/database"
	"github.com/go-partd/partd/tables/internal/sql/sqlwrite"
)

// Limits on all cached statements together. The statements of one caller may use an eighth of each limit.
const (
	maxPrepared      = 256
	maxPreparedBytes = 8 << 20
	preparedTTL      = 10 * time.Minute // time after the last use
)

// statement identifies a statement: its caller, the bucket where unqualified names are looked up, and the SQL.
type statement struct{ caller, bucket, sql string }

// prepared is a parsed statement and, after a call of Describe, its description. The description is valid while the
// tables keep their columns. Each execution resolves the table names again, with the rights of the caller.
type prepared struct {
	statement
	names []database.Name
	shape [sha256.Size]byte // hash of the tables' columns when the statement was described
	// nil if the statement needs DuckDB; its literals are not used, because other statements share it
	selection   *database.Selection
	result      *arrow.Schema // the result's columns; also set, without a call of Describe, after a Selection has run
	description *tables.QueryDescription
	size        int // size in bytes, from estimateSize
	lastUsed    time.Time
}

// preparedCache contains prepared statements, least recently used first.
type preparedCache struct {
	mu      sync.Mutex
	entries []prepared
}

// find returns the cached statement s. If s is not cached, ok is false, and the result contains only s.
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

// add adds or replaces a statement. If the caller's statements, or all statements, then exceed a limit,
// add drops the least recently used of them.
func (p *preparedCache) add(st prepared) {
	st.lastUsed, st.size = time.Now(), st.estimateSize()
	if st.size > maxPreparedBytes/8 {
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

// lookup is a search for a statement in the cache.
type lookup struct {
	template statement          // the statement without literals; unset if the cache has the statement itself
	literals []sqlwrite.Literal // the literals that template lacks
}

// findIn returns the cached statement with the given key, or a cached Selection with the same template. Otherwise,
// found is false, and st contains only the key.
func (l *lookup) findIn(p *preparedCache, key statement) (st prepared, found bool) {
	st, found = p.find(key)
	if found {
		return st, true
	}
	l.template = key
	l.template.sql, l.literals = sqlwrite.CutLiterals(key.sql)
	st, found = p.find(l.template)
	if !found {
		st.statement = key
	}
	return st, found
}

// addTo caches a parsed statement. It caches a Selection by its template, because statements with this template differ
// only in the literals of conditions.
func (l *lookup) addTo(p *preparedCache, st *prepared, names []database.Name) {
	st.names = names
	if len(names) == 1 && names[0].Selection != nil {
		if s := names[0].Selection; slices.Equal(s.CutLiterals(), l.literals) {
			st.selection, st.statement = s, l.template
		}
		names[0].Selection = nil
	}
	p.add(*st)
}

// limit considers the statements for which matches returns true. It drops the least recently used of them until at most
// count statements remain and their total size, in bytes, is at most maxBytes.
func (p *preparedCache) limit(count, maxBytes int, matches func(prepared) bool) {
	for i, st := range slices.Backward(p.entries) {
		if !matches(st) {
			continue
		}
		count--
		maxBytes -= st.size
		if count < 0 || maxBytes < 0 || time.Since(st.lastUsed) > preparedTTL {
			p.entries = slices.Delete(p.entries, i, i+1)
		}
	}
}

// estimateSize returns the approximate size of a statement, in bytes.
func (p prepared) estimateSize() int {
	const fixed, name = 512, 128
	n := fixed + len(p.caller) + len(p.bucket) + len(p.sql) + name*len(p.names)
	if len(p.names) > 0 {
		for _, column := range p.names[0].Columns { // all names share one list of columns
			n += 2*16 + len(column)
		}
	}
	if s := p.selection; s != nil {
		n += name * (len(s.Columns) + len(s.Where)) // the names themselves are about as long as those in p.sql
	}
	if p.result != nil {
		n += 4 * len(p.result.String())
	}
	if d := p.description; d != nil {
		n += 4 * len(d.Parameters.String())
	}
	return n
}

func shapeOf(tables []*boundTable) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, t := range tables {
		_, _ = h.Write([]byte(t.emptyView() + ";\n")) // never fails
	}
	return [sha256.Size]byte(h.Sum(sum[:0]))
}
