// Package benchdata has the input and the results of benchmarks: CSV files, and figures as lines of JSON.
package benchdata

import (
	"fmt"
	"io"
	"math/rand/v2"
	"strconv"
	"strings"
)

// CSVHeader is the first line of each file.
const CSVHeader = "id,key,v1,v2,text\n"

// CSVDists lists the distributions of keys.
const CSVDists = "uniform, zipf, half"

// CSVOptions selects the content of a CSV file.
type CSVOptions struct {
	Rows int64
	Keys int64
	// Dist is the distribution of keys: "uniform" (the default); "zipf", where key n is
	// about n^1.1 times less frequent than the first; or "half", where the first key has
	// half of the rows and the others are uniform.
	Dist string
	Seed uint64
	// Quoted puts a quoted text with commas and quotes into every fourth row.
	Quoted bool
}

const (
	shortest, longest = 100, 110 // lengths of a row in bytes
	blockSize         = 1 << 20
)

// WriteCSV writes a header and rows with the columns id, key, v1, v2 and text, with 100 to 110 bytes a row. The same
// options give the same bytes.
func WriteCSV(w io.Writer, o CSVOptions) error {
	if o.Rows < 0 || o.Keys < 1 {
		return fmt.Errorf("%d rows of %d keys: use at least 0 rows and 1 key", o.Rows, o.Keys)
	}
	r := rand.New(rand.NewPCG(o.Seed, 0))
	key, err := keyPicker(o, r)
	if err != nil {
		return err
	}
	buf := append(make([]byte, 0, blockSize+2*longest), CSVHeader...)
	for id := range o.Rows {
		buf = appendRow(buf, id, key(), r.Uint64(), o.Quoted && id%4 == 3)
		if len(buf) >= blockSize || id == o.Rows-1 {
			if _, err := w.Write(buf); err != nil {
				return err
			}
			buf = buf[:0]
		}
	}
	_, err = w.Write(buf)
	return err
}

func keyPicker(o CSVOptions, r *rand.Rand) (func() uint64, error) {
	n := uint64(o.Keys)
	switch o.Dist {
	case "", "uniform":
		return func() uint64 { return r.Uint64N(n) }, nil
	case "zipf":
		return rand.NewZipf(r, 1.1, 1, n-1).Uint64, nil
	case "half":
		return func() uint64 {
			if r.Uint64()&1 == 0 || n == 1 {
				return 0
			}
			return 1 + r.Uint64N(n-1)
		}, nil
	}
	return nil, fmt.Errorf("unknown distribution %q: use one of %s", o.Dist, CSVDists)
}

// words contains all values of the column text. Each value is a part of words that begins in the
// first half. The second half is longer than the longest value.
var words = strings.Repeat("the quick brown fox jumps over the lazy dog while seven wizards boil up "+
	"frozen mixtures and judge my vow by a black quartz sphinx at dawn ", 4)

// appendRow appends a row. The bits of random determine all columns except the key.
func appendRow(buf []byte, id int64, key, random uint64, quoted bool) []byte {
	start := len(buf)
	buf = strconv.AppendInt(buf, id, 10)
	buf = append(buf, ",k"...)
	buf = strconv.AppendUint(buf, key, 10)
	buf = append(buf, ',')
	buf = strconv.AppendInt(buf, int64(random%2_000_000)-1_000_000, 10)
	buf = append(buf, ',')
	cents := (random >> 21) % 1_000_000
	buf = strconv.AppendUint(buf, cents/100, 10)
	buf = append(buf, '.', '0'+byte(cents/10%10), '0'+byte(cents%10), ',')
	if quoted {
		buf = append(buf, `"say ""`...)
	}
	size := shortest + int(random>>41%(longest-shortest+1))
	tail := "\n"
	if quoted {
		tail = "\"\", twice\"\n"
	}
	from := int(random >> 48 % uint64(len(words)/2))
	buf = append(buf, words[from:from+max(size-(len(buf)-start)-len(tail), 1)]...)
	return append(buf, tail...)
}
