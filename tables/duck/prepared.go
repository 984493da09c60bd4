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

// What is kept of statements, which a caller uses up to an eighth of.
const (
	maxPrepared      = 256
	maxPreparedBytes = 8 << 20
	preparedFor      = 10 * time.Minute // after its last use
)

// statement is what its caller wrote, and where its names are looked up.
type statement struct{ caller, bucket, sql string }

// prepared is what the text of a statement says, and what it takes and yields, for as long as
// its tables have the same columns. Whoever uses it finds the tables by its names again, with
// the rights of that call.
type prepared struct {
	statement
	names       []database.Name
	shape       [sha256.Size]byte // of the tables, when it was described
	description *tables.QueryDescription
	bytes       int
	used        time.Time
}

// preparations are the statements that are kept, the one used last at the end.
type preparations struct {
	mu  sync.Mutex
	all []prepared
}

// find returns what is kept of a statement, and whether anything is.
func (p *preparations) find(s statement) (_ prepared, found bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	at := p.index(s)
	if at < 0 || time.Since(p.all[at].used) > preparedFor {
		return prepared{statement: s}, false
	}
	one := p.all[at]
	one.used = time.Now()
	p.all = append(slices.Delete(p.all, at, at+1), one)
	return one, true
}

func (p *preparations) index(s statement) int {
	return slices.IndexFunc(p.all, func(one prepared) bool { return one.statement == s })
}

// keep adds a statement, in the place of what was kept of it. It lets go of those that were used
// longest ago: of the caller's, where the caller has too many.
func (p *preparations) keep(one prepared) {
	if one.used, one.bytes = time.Now(), one.size(); one.bytes > maxPreparedBytes/8 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if at := p.index(one.statement); at >= 0 {
		p.all = slices.Delete(p.all, at, at+1)
	}
	p.all = append(p.all, one)
	p.limit(maxPrepared/8, maxPreparedBytes/8, func(other prepared) bool { return other.caller == one.caller })
	p.limit(maxPrepared, maxPreparedBytes, func(other prepared) bool { return true })
}

// limit lets go of the oldest ones of some until few enough are left.
func (p *preparations) limit(count, bytes int, of func(prepared) bool) {
	for i, one := range slices.Backward(p.all) {
		if !of(one) {
			continue
		}
		count--
		bytes -= one.bytes
		if count < 0 || bytes < 0 || time.Since(one.used) > preparedFor {
			p.all = slices.Delete(p.all, i, i+1)
		}
	}
}

// size is about how many bytes a statement takes.
func (p prepared) size() int {
	const fixed, name = 512, 128
	n := fixed + len(p.caller) + len(p.bucket) + len(p.sql) + name*len(p.names)
	if d := p.description; d != nil {
		n += 4 * (len(d.Result.String()) + len(d.Parameters.String()))
	}
	return n
}

// shapeOf is equal for tables with equal columns by the same names, which a statement has.
func shapeOf(all []*bound) (sum [sha256.Size]byte) {
	h := sha256.New()
	for _, t := range all {
		_, _ = h.Write([]byte(t.empty() + ";\n")) // it cannot fail
	}
	return [sha256.Size]byte(h.Sum(sum[:0]))
}
