//go:build cgo && unix

package main

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/memory"
)

// hit is one view of a page. Its fields determine the columns of a row.
type hit struct {
	row, rows        int64 // the number of the row, and the total number of rows
	user, page       int64
	referrer, phrase int64 // the previous page and the search phrase; 0 means none
	randomBits       uint64
}

// column is a column of hits. Only one of the functions is set: text for a column of strings, otherwise number.
type column struct {
	name   string
	kind   arrow.DataType
	number func(*hit) int64
	text   func(*hit) string
}

var (
	short     = arrow.PrimitiveTypes.Int16
	integer   = arrow.PrimitiveTypes.Int32
	long      = arrow.PrimitiveTypes.Int64
	text      = arrow.BinaryTypes.String
	timestamp = &arrow.TimestampType{Unit: arrow.Microsecond}
	words     = strings.Fields("amber basin cedar delta ember fjord grove haven inlet jetty knoll lagoon maple north ocean prairie " +
		"quartz ridge slope tundra upland valley willow xenon yonder zephyr anchor bridge canyon desert estuary forest")
)

// hitsStart is the time of the first hit, in Unix microseconds.
var hitsStart = time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

const hitsDays = 30

// hitsColumns are 105 columns like those of ClickBench's table hits, with about as many columns
// of each type. The queries use the first 25. The other columns are nearly always 0 or empty,
// like most columns of ClickBench.
var hitsColumns = append([]column{
	{"watch_id", long, func(h *hit) int64 { return hashID(1, h.row) }, nil},
	{"event_time", timestamp, (*hit).time, nil},
	{"event_date", arrow.FixedWidthTypes.Date32, func(h *hit) int64 { return h.time() / 86_400_000_000 }, nil},
	{"user_id", long, func(h *hit) int64 { return hashID(2, h.user) }, nil},
	{"client_ip", integer, func(h *hit) int64 { return 10 + hashID(3, h.user*4+h.uniform(0, 4))%(1<<31-10) }, nil},
	{"region_id", integer, func(h *hit) int64 { return skewed(hashID(4, h.user), 9000) }, nil},
	{"counter_id", integer, func(h *hit) int64 { return site(h.page) }, nil},
	{"url_hash", long, func(h *hit) int64 { return hashID(6, h.page) }, nil},
	{"referer_hash", long, func(h *hit) int64 { return hashID(7, h.referrer) }, nil},
	{"adv_engine_id", short, func(h *hit) int64 { return h.oneIn(1, 160) * (1 + h.uniform(2, 18)) }, nil},
	{"search_engine_id", short, func(h *hit) int64 { return min(h.phrase, 1) * (1 + skewed(hashID(8, h.phrase), 90)) }, nil},
	{"traffic_source_id", short, func(h *hit) int64 { return skewed(hashID(9, h.row), 12) - 1 }, nil},
	{"is_refresh", short, func(h *hit) int64 { return h.oneIn(3, 10) }, nil},
	{"is_link", short, func(h *hit) int64 { return h.oneIn(4, 25) }, nil},
	{"is_download", short, func(h *hit) int64 { return h.oneIn(5, 200) }, nil},
	{"not_counted", short, func(h *hit) int64 { return h.oneIn(6, 50) }, nil},
	{"resolution_width", short, (*hit).width, nil},
	{"window_width", short, func(h *hit) int64 { return max(0, h.width()-skewed(hashID(10, h.user), 400)) }, nil},
	{"window_height", short, func(h *hit) int64 { return 300 + skewed(hashID(11, h.user), 900) }, nil},
	{"mobile_phone", short, func(h *hit) int64 { return h.model() % 50 }, nil},
	{"mobile_phone_model", text, nil, func(h *hit) string { return numbered(h.model() == 0, "Model ", h.model()) }},
	{"title", text, nil, (*hit).title},
	{"url", text, nil, func(h *hit) string { return url(h.page) }},
	{"referer", text, nil, (*hit).refererURL},
	{"search_phrase", text, nil, (*hit).searchText},
}, fillerColumns()...)

func fillerColumns() (all []column) {
	cardinalities := []int64{1, 2, 5, 20, 100, 1000}
	for _, group := range []struct {
		kind arrow.DataType
		n    int
	}{{short, 37}, {integer, 16}, {long, 2}, {timestamp, 2}, {text, 23}} {
		for range group.n {
			k := len(all)
			c := column{name: fmt.Sprintf("rest_%d", k), kind: group.kind}
			switch group.kind.ID() {
			case arrow.STRING:
				c.text = func(h *hit) string {
					return numbered(h.uniform(k, 12) != 0, words[h.uniform(k+1, 32)], h.uniform(k+2, cardinalities[k%6]))
				}
			case arrow.TIMESTAMP:
				c.number = func(h *hit) int64 { return h.time() + 1_000_000*h.uniform(k, 10) }
			default:
				c.number = func(h *hit) int64 { return h.oneIn(k, 3) * h.uniform(k+1, cardinalities[k%6]+1) }
			}
			all = append(all, c)
		}
	}
	return all
}

// mix is the finalizer of splitmix64.
func mix(x uint64) uint64 {
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// hashID returns a pseudorandom 63-bit number for item n of a stream of numbers.
func hashID(stream uint64, n int64) int64 {
	return int64(mix(stream<<56^uint64(n)*0x9e3779b97f4a7c15) >> 1)
}

// skewed maps 63 random bits to a number below n. Small numbers are far more frequent.
func skewed(bits, n int64) int64 {
	u := float64(bits>>10) / (1 << 53)
	return int64(float64(n) * u * u * u)
}

// uniform returns a uniformly distributed number below n, which depends only on the row and the column.
func (h *hit) uniform(column int, n int64) int64 {
	return hashID(uint64(column), int64(h.randomBits>>1)) % n
}

// oneIn returns 1 for one in n rows, and 0 for the others.
func (h *hit) oneIn(column int, n int64) int64 {
	if h.uniform(column, n) == 0 {
		return 1
	}
	return 0
}

func (h *hit) time() int64 { return hitsStart + h.row*hitsDays*86_400_000_000/h.rows }

func (h *hit) width() int64 { return 320 + 16*skewed(hashID(14, h.user), 140) }

// model returns the phone model of a user, or 0 for the 94% of users without a phone.
func (h *hit) model() int64 {
	if hashID(15, h.user)%100 >= 6 {
		return 0
	}
	return 1 + skewed(hashID(17, h.user), 166)
}

func (h *hit) title() string {
	return phrase(hashID(12, h.page), 6) + numbered(h.oneIn(7, 8) == 1, " – ", site(h.page))
}

func (h *hit) searchText() string {
	return numbered(h.phrase == 0, phrase(hashID(13, h.phrase), 3)+" ", h.phrase%1000)
}

func (h *hit) refererURL() string {
	switch {
	case h.referrer == 0:
		return ""
	case h.phrase != 0:
		return fmt.Sprintf("https://www.lookup%d.example/search?q=%d", h.phrase%9, h.phrase)
	}
	return url(h.referrer)
}

func site(page int64) int64 { return skewed(hashID(5, page), 6500) }

func url(page int64) string {
	name := hashID(16, page)
	return fmt.Sprintf("https://www.site%d.example/%s/%s-%d.html", site(page), words[name%32], words[name>>5%32], page)
}

func phrase(bits int64, n int) string {
	var b strings.Builder
	for i := range n {
		if i > 0 {
			b.WriteByte(' ')
		}
		b.WriteString(words[bits>>(5*i)%32])
	}
	return b.String()
}

func numbered(empty bool, word string, n int64) string {
	if empty {
		return ""
	}
	return fmt.Sprint(word, n)
}

func hitsSchema() *arrow.Schema {
	var fields []arrow.Field
	for _, c := range hitsColumns {
		fields = append(fields, arrow.Field{Name: c.name, Type: c.kind, Nullable: true})
	}
	return arrow.NewSchema(fields, nil)
}

// hits returns n consecutive rows of a table hits, beginning with row number firstRow; the whole table has the given
// number of rows, ordered by time. The result depends only on the arguments. As in ClickBench, there is one user
// per six rows, one page per five rows, and a search in one of eight rows.
func hits(firstRow, n, rows int) arrow.RecordBatch {
	random := rand.New(rand.NewPCG(2, uint64(firstRow)))
	randomID := func(of int) int64 { return skewed(random.Int64(), int64(1+rows/of)) }
	b := array.NewRecordBuilder(memory.DefaultAllocator, hitsSchema())
	defer b.Release()
	for i := firstRow; i < firstRow+n; i++ {
		h := hit{row: int64(i), rows: int64(rows), user: randomID(3), page: randomID(2), randomBits: random.Uint64()}
		if h.oneIn(100, 5) == 0 {
			h.referrer = 1 + randomID(2)
		}
		if h.oneIn(101, 8) == 1 {
			h.phrase = 1 + randomID(10)
		}
		for k, c := range hitsColumns {
			c.append(b.Field(k), &h)
		}
	}
	return b.NewRecordBatch()
}

func (c *column) append(to array.Builder, h *hit) {
	switch to := to.(type) {
	case *array.StringBuilder:
		to.Append(c.text(h))
	case *array.Int16Builder:
		to.Append(int16(c.number(h)))
	case *array.Int32Builder:
		to.Append(int32(c.number(h)))
	case *array.Int64Builder:
		to.Append(c.number(h))
	case *array.TimestampBuilder:
		to.Append(arrow.Timestamp(c.number(h)))
	case *array.Date32Builder:
		to.Append(arrow.Date32(c.number(h)))
	}
}
