// Command gencsv writes a CSV file for benchmarks, with the columns id, key, v1, v2 and text,
// and 100 to 110 bytes per row. The same flags yield the same file. Run it from the root of
// the repository:
//
//	go run -C bench ./gencsv --rows 5800000 --keys 1000 -o rows.csv
package main

import (
	"errors"
	"flag"
	"io"
	"os"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/testutil/benchdata"
)

func main() {
	var o benchdata.CSVOptions
	flag.Int64Var(&o.Rows, "rows", 1_000_000, "number of `rows`")
	flag.Int64Var(&o.Keys, "keys", 1000, "number of distinct `keys`")
	flag.StringVar(&o.Dist, "dist", "uniform", "distribution of keys: "+benchdata.CSVDists)
	flag.Uint64Var(&o.Seed, "seed", 1, "random `seed`; different seeds yield different files")
	flag.BoolVar(&o.Quoted, "quoted", false, "put commas and quotes into the text of every fourth row")
	out := flag.String("o", "", "`file` to write (default: standard output)")
	program.ParseFlags()
	program.ExitOnError(write(*out, o))
}

func write(name string, o benchdata.CSVOptions) (err error) {
	w := io.WriteCloser(os.Stdout)
	if name != "" {
		if w, err = os.Create(name); err != nil {
			return err
		}
	}
	return errors.Join(benchdata.WriteCSV(w, o), w.Close())
}
