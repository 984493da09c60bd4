package cli

import (
	"bufio"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/go-partd/partd"
	"github.com/go-partd/partd/internal/base/progress"
	"github.com/go-partd/partd/internal/command/cliutil"
)

// chartWidth is the width of a chart that is not written to a terminal.
const chartWidth = 80

// drawChart draws a bar for the size of each key. The first key must be the largest.
func drawChart(w io.Writer, keys []partd.KeyInfo, columns int) {
	const maxName, minBar = 40, 10
	names, sizes := make([]string, len(keys)), make([]string, len(keys))
	var nameWidth, sizeWidth int
	for i, k := range keys {
		names[i] = keyText(k.Key)
		if r := []rune(names[i]); len(r) > maxName {
			names[i] = string(r[:maxName/2]) + "…" + string(r[len(r)-maxName/2+1:])
		}
		sizes[i] = fmt.Sprint(k.Size)
		nameWidth = max(nameWidth, utf8.RuneCountInString(names[i]))
		sizeWidth = max(sizeWidth, len(sizes[i]))
	}
	room := max(columns-nameWidth-sizeWidth-7, minBar)
	for i, k := range keys {
		bar := 0
		if k.Size > 0 {
			bar = max(1, int(float64(room)*float64(k.Size)/float64(keys[0].Size)))
		}
		line := fmt.Sprintf("  %-*s  %*s  %s", nameWidth, names[i], sizeWidth, sizes[i], strings.Repeat("#", bar))
		fmt.Fprintln(w, strings.TrimRight(line, " "))
	}
}

// withUnit formats a number of bytes. From 1000 on, it appends the rounded value with a unit in
// parentheses: 1500 (1.5 kB).
func withUnit(n int64) string {
	const k = 1000
	if n < k {
		return fmt.Sprint(n)
	}
	value, units := float64(n)/k, "kMGTPE"
	for value >= k {
		value, units = value/k, units[1:]
	}
	return fmt.Sprintf("%d (%.1f %cB)", n, value, units[0])
}

func writeNotes(w io.Writer, notes []string) {
	for _, note := range notes {
		fmt.Fprintln(w, "partd: note:", note)
	}
}

func writeResult(out io.Writer, asJSON bool, record any, text func(w io.Writer)) error {
	w := bufio.NewWriter(out)
	if !asJSON {
		text(w)
	} else if err := cliutil.NewEncoder(w).Encode(record); err != nil {
		return err
	}
	return w.Flush()
}

// writeTime writes how long reading a number of bytes took, and the rate.
func writeTime(w io.Writer, bytes int64, seconds float64) {
	fmt.Fprintf(w, "time      %.2f s, %s\n", seconds, progress.Rate(float64(bytes)/max(seconds, 1e-6)))
}
