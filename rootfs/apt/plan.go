package apt

import (
	"context"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
)

// Transaction is what an installation would do.
type Transaction struct {
	Packages  []string // NAME VERSION of all that would be installed, dependencies included
	Download  int64    // bytes to fetch
	Installed int64    // bytes that the tree would grow by, as far as the packages tell
}

// Simulate says what [Session.Install] would do, without doing it.
func (s *Session) Simulate(ctx context.Context, packages []description.Package, recommended bool) (Transaction, error) {
	if err := s.Update(ctx); err != nil {
		return Transaction{}, err
	}
	downloads, growth, err := s.resolve(ctx, packages, recommended)
	if err != nil {
		return Transaction{}, err
	}
	t := Transaction{Installed: growth}
	for _, d := range downloads {
		name, version := d.Package()
		t.Packages = append(t.Packages, name+" "+version)
		t.Download += d.Size
	}
	return t, nil
}

// parseGrowth reads "After this operation, 12.3 MB of additional disk space will be used." Units are decimal.
func parseGrowth(text string) int64 {
	_, rest, ok := strings.Cut(text, "After this operation, ")
	fields := strings.Fields(rest)
	if !ok || len(fields) < 2 || !strings.Contains(rest, "additional disk space") {
		return 0
	}
	n, err := strconv.ParseFloat(strings.ReplaceAll(fields[0], ",", ""), 64)
	if err != nil {
		return 0
	}
	switch fields[1] {
	case "kB":
		n *= 1e3
	case "MB":
		n *= 1e6
	case "GB":
		n *= 1e9
	}
	return int64(n)
}
