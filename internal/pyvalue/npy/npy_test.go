package npy

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]string{
		"<i8": "<i8", ">i8": ">i8", "=i4": "<i4", "i2": "<i2", "|i1": "|i1", "<i1": "|i1", ">u1": "|u1", "|b1": "|b1",
		"<f2": "<f2", "<f4": "<f4", ">f8": ">f8", "<c8": "<c8", ">c16": ">c16", "|O": "|O", "O": "|O", "|O8": "|O",
		"<M8[ns]": "<M8[ns]", ">M8[us]": ">M8[us]", "<m8[D]": "<m8[D]", "M8[W]": "<M8[W]",
	} {
		d, err := Parse(text)
		if err != nil || d.String() != want {
			t.Errorf("Parse(%q) = %v, %v, want %s", text, d, err, want)
		}
	}
	for _, text := range []string{
		"", "<", "8", "i", "<i", "<i3", "<i16", "<i+8", "<i08", "<f16", "<f1", "<c4", "<c32", "|b2", "<i8x", "i8 ", " i8", "<<i8", "<>i8",
		"<U5", "|S3", "|V4", "int64", "float", "?", "<i8[ns]", "<M8", "<M8[]", "<M8[ns", "<M8[ns]]", "<M8[Y]", "<M8[10us]", "<M4[ns]",
		"|O16", "[('a', '<i4')]", "\x00", "<i8\n", strings.Repeat("<", 1<<20),
	} {
		if d, err := Parse(text); err == nil {
			t.Errorf("Parse(%.40q) = %v, want an error", text, d)
		} else if len(err.Error()) > 300 {
			t.Errorf("Parse(%.40q) returns an error of %d bytes, want at most 300", text, len(err.Error()))
		}
	}
}

func TestTimes(t *testing.T) {
	d := DType{Kind: 'M', Size: 8, Unit: "ns"}
	good := []time.Time{time.Unix(0, math.MaxInt64), time.Unix(0, math.MinInt64+1), time.Unix(0, -1), {}}
	b := must.Get(AppendTimes(nil, d, good))(t)
	got := must.Get(DecodeTimes(d, b))(t)
	for i := range good {
		if !got[i].Equal(good[i]) || got[i].Location() != time.UTC {
			t.Errorf("%v is decoded as %v, want the same time in UTC", good[i], got[i])
		}
	}
	for _, timestamp := range []time.Time{time.Unix(0, math.MaxInt64).Add(1), time.Unix(0, math.MinInt64), time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)} {
		must.Fail(t, must.Err(AppendTimes(nil, d, []time.Time{timestamp})), "element 0", "AppendTimes of %v", timestamp)
	}
}

// TestExtremeCounts checks that counts that time.Time or time.Duration cannot represent cause errors, and that no count
// wraps around.
func TestExtremeCounts(t *testing.T) {
	for unit := range nanoseconds {
		for _, n := range []int64{math.MaxInt64, math.MinInt64 + 1, 1 << 54, -1 << 54, 0} {
			d := DType{Kind: 'M', Size: 8, Unit: unit}
			data := AppendFixed(nil, d, []int64{n})
			times, err := DecodeTimes(d, data)
			if err == nil && n != 0 && (times[0].After(time.Unix(0, 0)) != (n > 0)) {
				t.Errorf("%d%s is decoded as the time %v, want an error or a time with the same sign", n, unit, times[0])
			}
			durations, err := DecodeDurations(DType{Kind: 'm', Size: 8, Unit: unit}, data)
			if err == nil && (durations[0] > 0) != (n > 0) {
				t.Errorf("%d%s is decoded as the duration %v, want an error or a duration with the same sign", n, unit, durations[0])
			}
			if isTooLong := unit != "ns" && n > math.MaxInt64/1000; isTooLong && err == nil {
				t.Errorf("%d%s is decoded as the duration %v, want an error", n, unit, durations[0])
			}
		}
	}
	d := DType{Kind: 'm', Size: 8, Unit: "s"}
	must.Fail(t, must.Err(DecodeDurations(d, AppendFixed(nil, d, []int64{math.MinInt64}))), "NaT", "DecodeDurations of NaT")
}

func TestBools(t *testing.T) {
	if got := fmt.Sprint(DecodeBools([]byte{0, 1, 2, 255})); got != "[false true true true]" {
		t.Errorf("DecodeBools = %s, want [false true true true]", got)
	}
	if got := string(AppendFixed(nil, DType{Kind: 'b', Size: 1}, []bool{false, true})); got != "\x00\x01" {
		t.Errorf("AppendFixed of bools = %q", got)
	}
}
