package house

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
)

// CheckDrawing compares docs/house.svg, and the table of packages in docs/design.md, with
// the imports and the packages' own documentation, from which both are made, and made
// again with update.
func (h *House) CheckDrawing(t *testing.T, update bool) {
	packages := map[string]Package{}
	for _, p := range h.list(t, "linux") {
		name, _ := h.within(p.ImportPath)
		if h.floorOf(name) < 0 {
			t.Fatalf("package %s has no floor in the table house yet", p.ImportPath)
		}
		packages[name] = p
	}
	const begin, end = "| floor | package | what it does |\n|---|---|---|\n", "\n\n"
	design, err := os.ReadFile("docs/design.md")
	if err != nil {
		t.Fatal(err)
	}
	before, after, found := strings.Cut(string(design), begin)
	_, after, ended := strings.Cut(after, end)
	if !found || !ended {
		t.Fatalf("docs/design.md has no table that begins with %q", begin)
	}
	for name, made := range map[string]string{
		"docs/design.md": before + begin + h.table(packages) + end + after,
		"docs/house.svg": h.picture(packages),
	} {
		if update {
			err = os.WriteFile(name, []byte(made), 0o666)
		} else if old, readErr := os.ReadFile(name); string(old) != made {
			err = fmt.Errorf("%s is not what the packages are (%w): go test -run TestHouse . -update", name, cmp.Or(readErr, os.ErrInvalid))
		}
		if err != nil {
			t.Error(err)
		}
	}
}

// rooms returns the packages of a floor that exist, sorted.
func rooms(f Floor, packages map[string]Package) (names []string) {
	for name := range f.Packages {
		if _, found := packages[name]; found {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// table is the rows of the table: floor, package, and the first sentence of
// its documentation up to a colon, without the two words that say its name.
func (h *House) table(packages map[string]Package) string {
	var rows []string
	for _, f := range h.Floors {
		first := f.Name
		for _, name := range rooms(f, packages) {
			sentence, _, _ := strings.Cut(strings.TrimSuffix(packages[name].Doc, "."), ":")
			words := strings.SplitN(sentence, " ", 3)
			subject := strings.NewReplacer("[", "", "]", "").Replace(words[len(words)-1])
			if name == "." {
				name = h.Root
			}
			rows = append(rows, fmt.Sprintf("| %s | `%s` | %s |", first, name, subject))
			first = ""
		}
	}
	return strings.Join(rows, "\n")
}

// imported returns what a package imports of the module, without what one of
// these imports already, directly or not.
func (h *House) imported(name string, packages map[string]Package) (direct []string) {
	all := func(name string) (names []string) {
		for _, path := range packages[name].Imports {
			if own, ours := h.within(path); ours {
				names = append(names, own)
			}
		}
		return names
	}
	var reaches func(from, to string) bool
	reaches = func(from, to string) bool {
		return slices.ContainsFunc(all(from), func(next string) bool { return next == to || reaches(next, to) })
	}
	return slices.DeleteFunc(all(name), func(to string) bool {
		return slices.ContainsFunc(all(name), func(via string) bool { return reaches(via, to) })
	})
}

// box is where a package is drawn.
type box struct{ x, y, width int }

const (
	boxHeight  = 30
	rowHeight  = 62
	floorGap   = 30
	leftMargin = 170 // for the floors' names
	rowWidth   = 1090
)

// place gives each package its box: floors downwards, within a floor what is
// imported by those on the left to the left, so that fewer arrows cross.
func (h *House) place(packages map[string]Package) (boxes map[string]box, tops []int) {
	boxes = map[string]box{}
	y := floorGap
	for _, f := range h.Floors {
		names := rooms(f, packages)
		middle := map[string]int{}
		for _, name := range names {
			sum, n := 0, 0
			for above, b := range boxes {
				if slices.Contains(h.imported(above, packages), name) {
					sum, n = sum+b.x+b.width/2, n+1
				}
			}
			if middle[name] = rowWidth; n > 0 {
				middle[name] = sum / n
			}
		}
		slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(middle[a], middle[b]) })
		perRow := (len(names) + (len(names)+6)/7 - 1) / max(1, (len(names)+6)/7)
		tops = append(tops, y-floorGap/2)
		side := 1 // rows of one floor stand in each other's gaps
		if perRow == len(names) {
			side = 0
		}
		for row := range slices.Chunk(names, max(1, perRow)) {
			side = -side
			gap := rowWidth
			for _, name := range row {
				gap -= h.widthOf(name)
			}
			gap /= len(row)
			x := leftMargin + gap/2 + side*rowWidth/(4*len(row))
			for _, name := range row {
				boxes[name] = box{x, y, h.widthOf(name)}
				x += h.widthOf(name) + gap
			}
			y += rowHeight
		}
		y += floorGap
	}
	return boxes, append(tops, y-floorGap/2)
}

func (h *House) label(name string) string {
	if name == "." {
		return h.Root
	}
	return strings.TrimPrefix(name, "internal/")
}

func (h *House) widthOf(name string) int { return 26 + 8*len(h.label(name)) }

// picture draws the house as SVG.
func (h *House) picture(packages map[string]Package) string {
	boxes, tops := h.place(packages)
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="14">
<style>rect{fill:#fff;stroke:#444}.in{fill:#e8e8e8;stroke:#999}path{fill:none;stroke-width:1.4}.floor{fill:#f7f7f2;stroke:none}</style>
<marker id="head" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto"><polygon points="0 0 8 4 0 8" fill="#666"/></marker>
`, leftMargin+rowWidth+10, tops[len(tops)-1])
	for i, f := range h.Floors {
		fmt.Fprintf(&s, `<rect class="floor" x="0" y="%d" width="%d" height="%d"/><text x="10" y="%d" fill="#777">%s</text>`+"\n",
			tops[i]+3, leftMargin+rowWidth+10, tops[i+1]-tops[i]-6, tops[i]+34, f.Name)
	}
	colour := 0
	for _, f := range h.Floors {
		for _, name := range rooms(f, packages) {
			colour += 47
			from := boxes[name]
			for _, path := range h.imported(name, packages) {
				to := boxes[path]
				x1, y1, x2, y2 := from.x+from.width/2, from.y+boxHeight, to.x+to.width/2, to.y
				bend := max(30, (y2-y1)/2)
				fmt.Fprintf(&s, `<path d="M%d %dC%d %d %d %d %d %d" stroke="hsl(%d 60%% 45%%)" marker-end="url(#head)"/>`+"\n",
					x1, y1, x1, y1+bend, x2, y2-bend, x2, y2, colour%360)
			}
		}
	}
	for _, f := range h.Floors {
		for _, name := range rooms(f, packages) {
			b, class := boxes[name], "out"
			if strings.HasPrefix(name, "internal/") {
				class = "in"
			}
			fmt.Fprintf(&s, `<rect class="%s" x="%d" y="%d" width="%d" height="%d" rx="5"/><text x="%d" y="%d" text-anchor="middle">%s</text>`+"\n",
				class, b.x, b.y, b.width, boxHeight, b.x+b.width/2, b.y+20, h.label(name))
		}
	}
	return s.String() + "</svg>\n"
}
