package main

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/compress"
)

// A small run of each format reads back the appended data, and Python reads the same.
func TestEveryFormatIsChecked(t *testing.T) {
	const data = "../../testdata/birdstrikes.csv"
	text, err := os.ReadFile(data)
	if err != nil {
		t.Fatal(err)
	}
	sums := map[string]bool{}
	for _, format := range compress.Formats() {
		f, err := run(format, text, 100, 1000, 200_000)
		if err != nil || f.bytes != 200_000 {
			t.Errorf("%s: %v, %+v", format, err, f)
		}
		sums[f.sum] = true
	}
	if len(sums) != 1 {
		t.Errorf("the formats read different values: %v", sums)
	}
	r := row{peer: "Snappy", value: 100, batch: 1000, total: 200_000}
	switch f, err := measure(r, data, true); {
	case errors.Is(err, program.ErrNoPython) && os.Getenv("PARTD_REQUIRE_ALL") == "":
		t.Log(err)
	case err != nil || !sums[f.sum]:
		t.Errorf("Python reads %s, %v, and we %v", f.sum, err, sums)
	}
}

func TestSamples(t *testing.T) {
	samples, err := readSamples("../../testdata/birdstrikes.csv", "../../testdata/airports.csv")
	if err != nil || len(samples) != 3 {
		t.Fatalf("%d samples, %v", len(samples), err)
	}
	if !bytes.Contains(samples[0].data, []byte("Louisiana")) || len(samples[1].data) != 4*8*10_000 {
		t.Errorf("%d and %d bytes", len(samples[0].data), len(samples[1].data))
	}
	for _, set := range settings() {
		if f, err := measureCodec(samples[1].data[:8000], set, 1000); err != nil || f.ratio < 1 {
			t.Errorf("%s %s: %+v, %v", set.format, set.name, f, err)
		}
	}
}
