package e2e

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"
)

// tally is what came of all faults in all phases.
type tally struct {
	began   time.Time
	results []result
	missed  int
	sites   []visited
	wrong   []string // what was wrong, and how to see it again
	cut     string   // what was under way when somebody stopped it
}

// visited are the sites of a kind that were tortured.
type visited struct {
	name                string
	runs, missed, wrong int
	took                time.Duration
	first, last         time.Duration // the median of the first runs, and of the last
}

// add counts what came of a site; again says how to see what was wrong there once more.
func (a *tally) add(k *torture, again string) *tally {
	a.results = append(a.results, k.results...)
	a.missed += k.missed
	if k.t.Failed() {
		a.wrong = append(a.wrong, cmp.Or(k.now, "between two runs")+again)
	}
	return a
}

// leave counts what came of a site. A run that was stopped in the middle is not wrong.
func (a *tally) leave(t *testing.T, name, again string, k *torture, began time.Time, stopped bool) {
	v := visited{name: name, took: time.Since(began)}
	known := len(a.wrong)
	if k != nil {
		a.add(k, "\n    "+again)
		v.runs, v.missed = len(k.results), k.missed
		v.first, v.last = medians(k.results)
	} else if t.Failed() {
		a.wrong = append(a.wrong, "the site could not be made\n    "+again)
	}
	if stopped {
		a.wrong, a.cut = a.wrong[:known], "a site of "+name
		if k != nil {
			a.cut = cmp.Or(k.now, a.cut)
		}
	}
	v.wrong = len(a.wrong) - known
	i := slices.IndexFunc(a.sites, func(s visited) bool { return s.name == name })
	if i < 0 {
		a.sites = append(a.sites, v)
		return
	}
	s := &a.sites[i]
	s.runs, s.missed, s.wrong, s.took = s.runs+v.runs, s.missed+v.missed, s.wrong+v.wrong, s.took+v.took
	s.first, s.last = cmp.Or(s.first, v.first), cmp.Or(v.last, s.last)
}

// medians of what the first third of the runs took, and the last: they tell whether it gets slower.
func medians(of []result) (first, last time.Duration) {
	third := (len(of) + 2) / 3
	middle := func(some []result) time.Duration {
		if len(some) == 0 {
			return 0
		}
		took := make([]time.Duration, len(some))
		for i, r := range some {
			took[i] = r.took
		}
		slices.Sort(took)
		return took[len(took)/2]
	}
	return middle(of[:third]), middle(of[len(of)-third:])
}

// String is a report for people.
func (a *tally) String() string {
	var columns, rows []string
	cells := map[[2]string][2]int{}
	interruptions := map[string][]time.Duration{}
	for _, r := range a.results {
		row := r.fault.id + " " + r.fault.name
		if !slices.Contains(rows, row) {
			rows = append(rows, row)
		}
		if !slices.Contains(columns, r.phase.id) {
			columns = append(columns, r.phase.id)
		}
		c := cells[[2]string{row, r.phase.id}]
		c[map[string]int{before: 0, after: 1}[r.side]]++
		cells[[2]string{row, r.phase.id}] = c
		interruptions[row] = append(interruptions[row], r.interrupted)
		interruptions["all"] = append(interruptions["all"], r.interrupted)
	}
	slices.Sort(columns)
	slices.SortFunc(rows, func(a, b string) int { // F4 before F16
		return cmp.Or(strings.Index(a, " ")-strings.Index(b, " "), strings.Compare(a, b))
	})
	var b strings.Builder
	line := func(name, each string, n int, of func(i int) any) {
		fmt.Fprintf(&b, "\n%-46s", name)
		for i := range n {
			fmt.Fprintf(&b, each, of(i))
		}
	}
	if len(a.sites) > 0 {
		b.WriteString("\nSites, and what the middle one of their first and of their last runs took")
		line("", " %9s", 6, func(i int) any { return []string{"time", "runs", "missed", "wrong", "first", "last"}[i] })
		for _, v := range a.sites {
			line(v.name, " %9v", 6, func(i int) any {
				return []any{v.took.Round(time.Second), v.runs, v.missed, v.wrong, v.first.Round(100 * time.Millisecond), v.last.Round(100 * time.Millisecond)}[i]
			})
		}
		b.WriteString("\n")
	}
	b.WriteString("\nRuns that ended BEFORE + AFTER: which side was live, whole, by a reading of its own")
	for part := range 2 {
		line("", " %9s", len(columns), func(i int) any { return strings.SplitN(columns[i], " ", 2)[part] })
	}
	for _, row := range rows {
		line(row, " %9s", len(columns), func(i int) any {
			n := cells[[2]string{row, columns[i]}]
			return strings.Replace(fmt.Sprintf("%d + %d", n[0], n[1]), "0 + 0", ".", 1)
		})
	}
	b.WriteString("\n\nInterruption that the application saw")
	line("", " %9s", 4, func(i int) any { return []string{"min", "median", "p95", "max"}[i] })
	for _, row := range append(rows, "all") {
		d := interruptions[row]
		slices.Sort(d)
		line(row, " %9s", min(len(d), 4), func(i int) any {
			return d[[]int{0, len(d) / 2, len(d) * 95 / 100, len(d) - 1}[i]].Round(time.Millisecond)
		})
	}
	b.WriteString("\n\n")
	if a.cut != "" {
		fmt.Fprintf(&b, "Stopped in the middle of: %s\n", a.cut)
	}
	for _, w := range a.wrong {
		fmt.Fprintf(&b, "WRONG: %s\n", w)
	}
	took := time.Duration(0)
	for _, r := range a.results {
		took += r.took
	}
	if !a.began.IsZero() {
		took = time.Since(a.began)
	}
	fmt.Fprintf(&b, "%s: %d faults struck, %d came too late or too early to count, wrong: %d\n", took.Round(time.Second), len(a.results), a.missed, len(a.wrong))
	return b.String()
}
