// Package metrics counts events and writes metrics in Prometheus' text format, version 0.0.4.
package metrics

import (
	"bufio"
	"io"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// ContentType is the media type of Prometheus' text format.
const ContentType = "text/plain; version=0.0.4; charset=utf-8"

// Kind is the type of a metric in Prometheus' text format.
type Kind string

const (
	Counter   Kind = "counter"
	Gauge     Kind = "gauge"
	Durations Kind = "histogram"
)

var bounds = [...]time.Duration{
	100 * time.Microsecond, 300 * time.Microsecond, time.Millisecond, 3 * time.Millisecond, 10 * time.Millisecond, 30 * time.Millisecond,
	100 * time.Millisecond, 300 * time.Millisecond, time.Second, 3 * time.Second, 10 * time.Second, 30 * time.Second,
}

// Histogram counts durations in buckets. The zero value is ready to use.
type Histogram struct {
	counts [len(bounds) + 1]atomic.Int64
	sum    atomic.Int64
}

// Observe counts a duration.
func (h *Histogram) Observe(d time.Duration) {
	i := 0
	for i < len(bounds) && d > bounds[i] {
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(int64(d))
}

// Count returns the number of durations observed.
func (h *Histogram) Count() (n int64) {
	for i := range h.counts {
		n += h.counts[i].Load()
	}
	return n
}

// Writer writes metrics. The caller must write all samples of a metric before it begins the next
// metric.
type Writer struct {
	w    *bufio.Writer
	name string
}

// NewWriter returns a Writer that writes to w. The caller must call Flush at the end.
func NewWriter(w io.Writer) *Writer { return &Writer{w: bufio.NewWriter(w)} }

// Begin writes the name, kind and help text of a metric. Samples may follow.
func (w *Writer) Begin(name string, k Kind, help string) {
	w.name = name
	w.write("# HELP ", name, " ", strings.NewReplacer(`\`, `\\`, "\n", `\n`).Replace(help), "\n# TYPE ", name, " ", string(k), "\n")
}

// Single writes a metric with its only sample.
func (w *Writer) Single(name string, k Kind, help string, value float64) {
	w.Begin(name, k, help)
	w.Sample(value)
}

// Sample writes a sample of the current metric. labels alternates names and values.
func (w *Writer) Sample(value float64, labels ...string) { w.sample("", value, labels) }

// Histogram writes the samples of a histogram, in seconds.
func (w *Writer) Histogram(h *Histogram, labels ...string) {
	sum, n := h.sum.Load(), int64(0)
	labels = append(labels[:len(labels):len(labels)], "le", "+Inf")
	for i := range h.counts {
		n += h.counts[i].Load()
		labels[len(labels)-1] = "+Inf"
		if i < len(bounds) {
			labels[len(labels)-1] = formatNumber(bounds[i].Seconds())
		}
		w.sample("_bucket", float64(n), labels)
	}
	labels = labels[:len(labels)-2]
	w.sample("_sum", time.Duration(sum).Seconds(), labels)
	w.sample("_count", float64(n), labels)
}

// Flush writes all buffered data and returns the first error of any write.
func (w *Writer) Flush() error { return w.w.Flush() }

func (w *Writer) sample(suffix string, value float64, labels []string) {
	w.write(w.name, suffix)
	for i := 0; i < len(labels); i += 2 {
		separator := ","
		if i == 0 {
			separator = "{"
		}
		w.write(separator, labels[i], `="`, strings.NewReplacer(`\`, `\\`, "\n", `\n`, `"`, `\"`).Replace(labels[i+1]), `"`)
	}
	if len(labels) > 0 {
		w.write("}")
	}
	w.write(" ", formatNumber(value), "\n")
}

func formatNumber(v float64) string { return strconv.FormatFloat(v, 'g', -1, 64) }

func (w *Writer) write(texts ...string) {
	for _, t := range texts {
		_, _ = w.w.WriteString(t) // Flush returns the error
	}
}
