package main

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/bench/internal/program"
)

// table is a file of the db-benchmark, with the SQL types of its columns.
type table struct {
	name           string
	columns, types []string
	rows           uint64
	order          string // -k options for the sort command, used with --sorted
	// row appends row i to line, without a newline. It must be called for all rows in order.
	row func(line []byte, i uint64) []byte

	path string
}

// questionInput returns the input of a question, after creating its tables unless they exist.
func (f *flags) questionInput(ctx context.Context, q *question) (*input, error) {
	src := &input{keys: f.rows, tables: f.tables(q), name: fmt.Sprintf("%s rows, %d %% missing", humanize.Comma(f.rows), f.missingPercent)}
	if f.sortedInput {
		src.name += ", sorted"
	}
	for _, t := range src.tables {
		if err := f.ensureTable(ctx, t); err != nil {
			return nil, err
		}
		info, err := os.Stat(t.path)
		if err != nil {
			return nil, err
		}
		src.bytes += info.Size()
	}
	return src, nil
}

// tables returns the tables of a question: x, and for a join also the right table.
func (f *flags) tables(q *question) (tables []*table) {
	if q.right == "" {
		tables = []*table{f.groupingTable()}
	} else {
		tables = []*table{f.joinTable("x"), f.joinTable(q.right)}
	}
	for _, t := range tables {
		t.path = filepath.Join(f.dir, fmt.Sprintf("%s-%s-%d-%d-%d-%v-%d.csv", q.name[:1], t.name, f.rows, f.groups, f.missingPercent, f.sortedInput, f.seed))
	}
	return tables
}

func (f *flags) ensureTable(ctx context.Context, t *table) error {
	return ensureFile(t.path, func(w *os.File) error {
		b := bufio.NewWriterSize(w, 1<<20)
		line := []byte(strings.Join(t.columns, ",") + "\n")
		for i := range t.rows {
			_, _ = b.Write(line) // Flush returns the error
			line = append(t.row(line[:0], i), '\n')
		}
		_, _ = b.Write(line)
		if err := b.Flush(); err != nil || !f.sortedInput {
			return err
		}
		_, err := program.RunMeasured(ctx, time.Hour, 0, script(`head -n 1 "$1" > "$1".sorted && tail -n +2 "$1" | `+f.sortCommand("-t, "+t.order)+` >> "$1".sorted && mv "$1".sorted "$1"`, w.Name(), f.dir))
		return err
	})
}

// groupingTable returns a table like that of groupby-datagen.R in the db-benchmark.
func (f *flags) groupingTable() *table {
	n, k, r := uint64(f.rows), uint64(f.groups), rand.New(rand.NewPCG(f.seed, 1))
	fewGroups := max(n/k, 1)
	formats := []string{"id%03d", "id%03d", "id%010d"}
	values := []uint64{k, k, fewGroups, k, k, fewGroups, 5, 5, 1_000_001}
	return &table{
		name: "x", rows: n, order: "-k1,1 -k2,2 -k3,3 -k4,4n -k5,5n -k6,6n",
		columns: strings.Split("id1,id2,id3,id4,id5,id6,v1,v2,v3", ","),
		types:   strings.Split("VARCHAR,VARCHAR,VARCHAR,INT,INT,INT,INT,INT,DOUBLE", ","),
		row: func(line []byte, _ uint64) []byte {
			for c, cardinality := range values {
				if c > 0 {
					line = append(line, ',')
				}
				switch value := r.Uint64N(cardinality); {
				case r.IntN(100) < f.missingPercent:
				case c < len(formats):
					line = fmt.Appendf(line, formats[c], 1+value)
				case c < len(values)-1:
					line = strconv.AppendUint(line, 1+value, 10)
				default:
					line = strconv.AppendFloat(line, float64(value)/1e4, 'f', -1, 64)
				}
			}
			return line
		},
	}
}

// joinTable returns the table x, small, medium or big, like join-datagen.R in the db-benchmark.
// Every other table shares nine tenths of its keys with x. The flag --missing sets the percentage of x's
// keys that are missing in all rows. Columns of strings, such as id4, contain "id" and the key. If
// the key is missing, they are empty, while join-datagen.R writes idNA.
func (f *flags) joinTable(name string) *table {
	n := uint64(f.rows)
	keys := []uint64{max(n/1e6, 10), max(n/1e3, 10), n}
	t := &table{name: name, rows: n, order: "-k1,1n -k2,2n -k3,3n"}
	sets, value := 3, "v1"
	if name != "x" {
		sets, value = slices.Index([]string{"small", "medium", "big"}, name)+1, "v2"
		t.rows, t.order = keys[sets-1], fmt.Sprintf("-k%d,%[1]dn", sets)
	}
	for c := range 2 * sets {
		t.columns = append(t.columns, fmt.Sprintf("id%d", c%sets+1+c/sets*3))
		t.types = append(t.types, []string{"INT", "VARCHAR"}[c/sets])
	}
	t.columns, t.types = append(t.columns, value), append(t.types, "DOUBLE")
	r := rand.New(rand.NewPCG(f.seed, uint64(name[0])))
	salt := r.Uint64()
	t.row = func(line []byte, i uint64) []byte {
		var ids [3]uint64
		for s := range sets {
			// Each key occurs at least once; the remaining rows have random keys.
			index := permute(i, t.rows, salt+uint64(s))
			if index >= keys[s] {
				index = mix(index+salt) % keys[s]
			}
			unshared := keys[s] / 10
			if name == "x" && mix(index^f.seed)%100 < uint64(f.missingPercent) {
				continue
			} else if name != "x" && index >= keys[s]-unshared {
				index += unshared
			}
			ids[s] = 1 + permute(index, keys[s]+unshared, f.seed+uint64(s))
		}
		for c := range 2 * sets {
			if id := ids[c%sets]; id > 0 {
				line = strconv.AppendUint(append(line, "id"[:c/sets*2]...), id, 10)
			}
			line = append(line, ',')
		}
		if v := r.Uint64N(100_000_001); name != "x" || r.IntN(100) >= f.missingPercent {
			line = strconv.AppendFloat(line, float64(v)/1e6, 'f', -1, 64)
		}
		return line
	}
	return t
}

// permute returns element i of a pseudorandom permutation of the numbers below n, without storing
// the permutation. It applies a Feistel network, repeatedly until the result is below n.
func permute(i, n, seed uint64) uint64 {
	half := 1
	for 1<<(2*half) < n {
		half++
	}
	for mask := uint64(1)<<half - 1; ; {
		left, right := i>>half, i&mask
		for round := range uint64(4) {
			left, right = right, left^mix(right+mix(seed+round<<32))&mask
		}
		i = left<<half | right
		if i < n {
			return i
		}
	}
}

// mix is the finalizer of SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9E3779B97F4A7C15
	x = (x ^ x>>30) * 0xBF58476D1CE4E5B9
	x = (x ^ x>>27) * 0x94D049BB133111EB
	return x ^ x>>31
}
