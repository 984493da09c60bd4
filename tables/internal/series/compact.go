package series

import (
	"cmp"
	"slices"
)

// Groups returns the files to be merged, each group in the order in which its files
// came. A file that begins with the last time of an earlier one does not overlap it.
// What is merged comes last of its time.
func (s *Series) Groups(by *Cut, files []*File, target int64) (groups [][]*File) {
	place := map[*File]int{}
	for i, f := range files {
		place[f] = i
	}
	byTime := slices.SortedStableFunc(slices.Values(files), func(a, b *File) int {
		return cmp.Or(cmp.Compare(a.Low(), b.Low()), cmp.Compare(a.High(), b.High()))
	})
	var end, last int64 // of the last group: of its last period, and its last time
	open := false       // whether more may join the last group
	for i := 0; i < len(byTime); {
		from, high, latest := i, byTime[i].High(), place[byTime[i]]
		for i++; i < len(byTime) && (byTime[i].Low() < high || byTime[i].Low() == high && place[byTime[i]] < latest); i++ {
			high, latest = max(high, byTime[i].High()), max(latest, place[byTime[i]])
		}
		overlapping := byTime[from:i]
		// One that begins with the last time of what is merged would come before that.
		begins := open && overlapping[0].Low() == last
		if !begins && len(overlapping) == 1 && s.stays(by, overlapping[0]) && overlapping[0].Data().FileSizeBytes() >= target*3/4 {
			open = false
			continue
		}
		if !open || overlapping[0].Low() >= end {
			groups = append(groups, nil)
		}
		at := len(groups) - 1
		groups[at] = append(groups[at], overlapping...)
		end, last, open = by.end(high), high, true
	}
	groups = slices.DeleteFunc(groups, func(g []*File) bool { return len(g) == 1 && s.stays(by, g[0]) })
	for _, g := range groups {
		slices.SortFunc(g, func(a, b *File) int { return cmp.Compare(place[a], place[b]) })
	}
	return groups
}

// stays reports whether a file has the order, and is known to lie within a period.
func (s *Series) stays(by *Cut, f *File) bool {
	return s.InOrder(f.Data()) && f.Bounds != nil && f.Bounds.Highest < by.end(f.Bounds.Lowest)
}
