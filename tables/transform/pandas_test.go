package transform_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/internal/rows/take"
	"github.com/go-partd/partd/tables/transform"
)

// binLengths maps rules to the approximate lengths of their bins.
var binLengths = map[string]time.Duration{
	"ns": 1, "7ns": 7, "250us": 250e3, "1500us": 1500e3, "37ms": 37e6, "500ms": 500e6,
	"s": 1e9, "10s": 10e9, "90s": 90e9, "5min": 300e9, "7min": 420e9, "1h30min": 5400e9, "h": 3600e9, "5h": 5 * 3600e9,
	"0.5h": 1800e9, "24h": days(1), "36h": days(1), "D": days(1), "2D": days(2), "5D": days(5),
	"W": days(7), "W-MON": days(7), "W-TUE": days(7), "W-WED": days(7), "W-THU": days(7), "W-FRI": days(7), "W-SAT": days(7), "2W-WED": days(14), "3W": days(21),
	"ME": days(30), "2ME": days(60), "5ME": days(150), "MS": days(30), "2MS": days(60), "7MS": days(210),
	"QE": days(90), "QE-JAN": days(90), "QE-FEB": days(90), "2QE-NOV": days(180), "QS": days(90), "QS-FEB": days(90), "3QS-NOV": days(270),
	"YE": days(365), "YE-JUN": days(365), "2YE": days(730), "YS": days(365), "YS-APR": days(365), "3YS": days(1095),
	"B": days(1), "2B": days(3), "5B": days(7), "C": days(1), "BME": days(30), "2BME": days(60), "BMS": days(30), "3BMS": days(90), "CBME": days(30), "CBMS": days(30), "2CBME": days(60),
	"SME": days(15), "2SME": days(30), "3SME-20": days(45), "SME-1": days(15), "SMS": days(15), "3SMS": days(45), "SMS-2": days(15), "SMS-27": days(15),
	"BQE": days(90), "BQE-JAN": days(90), "2BQE-NOV": days(180), "BQS": days(90), "2BQS-FEB": days(180), "BYE": days(365), "BYE-JUN": days(365), "2BYE": days(730), "BYS": days(365), "2BYS-APR": days(730),
	"HYE": days(182), "HYE-FEB": days(182), "HYS": days(182), "2HYS-MAR": days(365), "BHYE": days(182), "2BHYE-JAN": days(365), "BHYS": days(182),
}

func days(n int) time.Duration { return time.Duration(n) * 24 * time.Hour }

var zones = []string{"", "", "UTC", "Europe/Berlin", "America/New_York", "America/Havana", "America/Sao_Paulo", "Asia/Kolkata", "Australia/Lord_Howe", "+05:30"}

var (
	numberFunctions  = []string{"mean", "sum", "min", "max", "first", "last", "count", "median", "std", "var", "sem", "prod", "size", "ohlc", "nunique"}
	fillFunctions    = []string{"ffill", "bfill", "nearest", "asfreq", "interpolate", "quantile"} // each must be the only function of a call
	anyTypeFunctions = []string{"first", "last", "count", "nunique", "size", "min", "max"}
)

// randomSeries returns rows in random order. Some times are equal, null, or near the starts of days
// and bins, and there are gaps between them.
func randomSeries(random *rand.Rand, zone string, unit arrow.TimeUnit, step time.Duration) arrow.RecordBatch {
	schema := arrow.NewSchema([]arrow.Field{
		{Name: "t", Type: &arrow.TimestampType{Unit: unit, TimeZone: zone}, Nullable: true},
		{Name: "f", Type: arrow.PrimitiveTypes.Float64, Nullable: true},
		{Name: "i", Type: arrow.PrimitiveTypes.Int32, Nullable: true},
		{Name: "b", Type: arrow.FixedWidthTypes.Boolean, Nullable: true},
		{Name: "s", Type: arrow.BinaryTypes.String, Nullable: true},
	}, nil)
	location, err := schema.Field(0).Type.(*arrow.TimestampType).GetZone()
	if err != nil {
		panic(err)
	}
	span := step * min(time.Duration(1+random.IntN(200)), 80*days(365)/step)
	first := 1970
	if zone == "Australia/Lord_Howe" {
		first = 1982 // before 1982, pandas shifts by an hour when clocks moved by half an hour
	}
	start := time.Date(first+random.IntN(2030-first), time.Month(1+random.IntN(12)), 1+random.IntN(28), 0, 0, 0, 0, location)
	if random.IntN(3) > 0 {
		start = start.Add(time.Duration(random.Int64N(int64(days(1)))))
	}
	if step < time.Second && random.IntN(2) > 0 {
		start = start.Add(-span / 2)
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, schema)
	defer b.Release()
	last := start
	for range 1 + random.IntN(120) {
		timestamp := start.Add(time.Duration(random.Int64N(int64(span) + 1)))
		switch local := timestamp.In(location); random.IntN(8) {
		case 0:
			timestamp = last
		case 1:
			if step >= days(1) {
				timestamp = time.Date(local.Year(), local.Month(), local.Day(), 0, 0, 0, 0, location)
			}
		case 2:
			timestamp = timestamp.Truncate(step)
		case 3:
			if step >= days(1) {
				timestamp = time.Date(local.Year(), local.Month(), 1, 0, 0, -random.IntN(2), 0, location)
			}
		}
		last = timestamp
		if random.IntN(20) == 0 {
			b.Field(0).AppendNull()
		} else {
			v, err := arrow.TimestampFromTime(timestamp.UTC(), unit)
			if err != nil {
				panic(err)
			}
			if zone == "" {
				v, _ = arrow.TimestampFromTime(timestamp, unit)
			}
			b.Field(0).(*array.TimestampBuilder).Append(v)
		}
		switch f := b.Field(1).(*array.Float64Builder); random.IntN(12) {
		case 0:
			f.AppendNull()
		case 1:
			f.Append(math.NaN())
		case 2:
			f.Append(math.Inf(1 - 2*random.IntN(2)))
		default:
			f.Append(random.NormFloat64())
		}
		switch i := b.Field(2).(*array.Int32Builder); random.IntN(6) {
		case 0:
			i.AppendNull()
		default:
			i.Append(int32(random.IntN(12) - 3))
		}
		b.Field(3).(*array.BooleanBuilder).Append(random.IntN(2) > 0)
		switch s := b.Field(4).(*array.StringBuilder); random.IntN(6) {
		case 0:
			s.AppendNull()
		default:
			s.Append(fmt.Sprint("s", random.IntN(5)))
		}
	}
	return b.NewRecordBatch()
}

// dropUnfillable removes rows with null or duplicate times, which pandas does not fill.
func dropUnfillable(b arrow.RecordBatch) arrow.RecordBatch {
	seen, keep := map[arrow.Timestamp]bool{}, make([]bool, b.NumRows())
	times := b.Column(0).(*array.Timestamp)
	for i := range keep {
		keep[i] = times.IsValid(i) && !seen[times.Value(i)]
		seen[times.Value(i)] = true
	}
	out, err := take.Where(b, keep)
	if err != nil {
		panic(err)
	}
	return out
}

func writeArrow(t *testing.T, path string, schema *arrow.Schema, batches ...arrow.RecordBatch) {
	t.Helper()
	f := must.Get(os.Create(path))(t)
	defer f.Close() //nolint:errcheck // Python reads it
	w := ipc.NewWriter(f, ipc.WithSchema(schema))
	for _, b := range batches {
		must.Do(t, w.Write(b))
	}
	must.Do(t, w.Close())
}

// TestResampleLikePandas compares every rule and function with pandas. PARTD_RESAMPLE_SEED selects the random series,
// and PARTD_RESAMPLE_ROUNDS the number of series per rule, after which one series per rule is filled. By default, half
// of the rules fill a series, and the others do not.
func TestResampleLikePandas(t *testing.T) {
	python := procs.Python(t, "pandas")
	seed, rounds := seedAndRounds(t)
	random := rand.New(rand.NewPCG(seed, 0))
	s, dir := newStore(t), t.TempDir()
	var cases []map[string]any
	for _, rule := range slices.Sorted(maps.Keys(binLengths)) {
		step := binLengths[rule]
		only := random.IntN(2)
		for round := range rounds + 1 {
			if rounds == 1 && round != only {
				continue
			}
			zone, unit := zones[random.IntN(len(zones))], arrow.TimeUnit(random.IntN(4))
			if step < time.Second {
				unit = max(unit, arrow.Microsecond)
			}
			if step < time.Microsecond {
				unit = arrow.Nanosecond
			}
			if step < time.Microsecond {
				zone = "" // SQL has no nanoseconds with a zone
			}
			batch := randomSeries(random, zone, unit, step)
			functions, columns := numberFunctions, []string{"f", "i", "b"}
			switch random.IntN(4) {
			case 0:
				functions, columns = anyTypeFunctions, []string{"f", "i", "b", "s"}
			case 1:
				functions = []string{numberFunctions[random.IntN(len(numberFunctions))]}
			}
			if round == rounds {
				functions, columns = []string{fillFunctions[random.IntN(len(fillFunctions))]}, []string{"f", "i", "b", "s"}
				if f := functions[0]; f == "interpolate" || f == "quantile" {
					columns = columns[:2]
				}
				batch = dropUnfillable(batch)
			}
			// Some rows are in a file, others in the tail.
			split := random.Int64N(batch.NumRows() + 1)
			put(t, s, "in", tables.PutReplace, batch.NewSlice(0, split))
			put(t, s, "in", tables.PutAppend, batch.NewSlice(split, batch.NumRows()))
			r, err := transform.Resample(t.Context(), s, &transform.ResampleOptions{
				Source: transform.TableName{Name: "in"}, Target: transform.TableName{Name: "out"}, Rule: rule, TimeColumn: "t",
				Functions: functions, Columns: columns, Mode: tables.PutReplace,
			})
			if err != nil {
				t.Fatalf("Resample with rule %s, zone %q, unit %v and functions %v: %v\n%v", rule, zone, unit, functions, err, batch)
			}
			if r.SourceRows != batch.NumRows() {
				t.Errorf("Resample() = %+v, want %d source rows", r, batch.NumRows())
			}
			schema, out := scan(t, s, "out")
			n := len(cases)
			source := batch
			if n := len(columns) + 1; n < 5 {
				source = array.NewRecordBatch(arrow.NewSchema(batch.Schema().Fields()[:n], nil), batch.Columns()[:n], batch.NumRows())
			}
			writeArrow(t, filepath.Join(dir, fmt.Sprint(n, ".arrow")), source.Schema(), source)
			writeArrow(t, filepath.Join(dir, fmt.Sprint(n, ".out.arrow")), schema, out...)
			cases = append(cases, map[string]any{"rule": rule, "zone": zone, "unit": unit.String(), "functions": functions})
		}
	}
	must.Do(t, os.WriteFile(filepath.Join(dir, "cases.json"), must.Get(json.Marshal(cases))(t), 0o600))
	out, err := exec.CommandContext(t.Context(), python, "-W", "ignore", filepath.Join("testdata", "resample_peer.py"), dir).CombinedOutput()
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if err != nil || len(lines) > 1 {
		t.Errorf("pandas computes other results (error %v):\n%s", err, out)
	}
	var compared, unsupported int
	if _, err := fmt.Sscanf(lines[len(lines)-1], "%d compared, %d refused", &compared, &unsupported); err != nil || unsupported > len(cases)/4 || compared+unsupported != len(cases) {
		t.Errorf("the comparison with pandas printed %q, want counts of %d cases, at most a quarter of them refused", lines[len(lines)-1], len(cases))
	}
	t.Log(lines[len(lines)-1])
}
