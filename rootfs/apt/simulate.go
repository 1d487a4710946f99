package apt

import (
	"context"
	"strconv"
	"strings"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/rootfs/dpkg"
	"github.com/imgbuild/imgbuild/rootfs/packages"
)

// Simulate says what an installation would do, without doing it.
func (s *session) Simulate(ctx context.Context, set description.PackageSet) (packages.Transaction, error) {
	s.warn(set)
	p, err := s.place(ctx)
	if err != nil {
		return packages.Transaction{}, err
	}
	if err := s.refresh(ctx, p); err != nil {
		return packages.Transaction{}, err
	}
	t := task{place: p, list: set.Packages, ignore: set.Ignore}
	args := []string{"install", recommends(set.PlusRecommended), "--"}
	if p == bare {
		t.ignore = notInBase(set)
		args = append(args, base(set)...)
	}
	downloads, growth, err := s.resolve(ctx, t, append(args, wanted(set)...)...)
	if err != nil {
		return packages.Transaction{}, err
	}
	result := packages.Transaction{Growth: growth}
	for _, d := range downloads {
		result.Packages = append(result.Packages, d.Package)
	}
	return result, s.sizes(ctx, t, &result)
}

// sizes asks apt for the sizes of installed packages. The sum is more exact than what apt says of an installation, where that adds to an empty tree.
func (s *session) sizes(ctx context.Context, t task, transaction *packages.Transaction) error {
	if len(transaction.Packages) == 0 {
		return nil
	}
	args := []string{"apt-cache", "-c", insideConf + "/apt.conf", "show", "--no-all-versions"}
	for _, p := range transaction.Packages {
		args = append(args, p.Name+":"+p.Arch+"="+p.Version)
	}
	for i, arg := range args {
		args[i] = strings.Replace(arg, ":all=", "=", 1)
	}
	var answer strings.Builder
	t.noNetwork = true
	spec := s.spec(t, args...)
	spec.Title, spec.Stdout = "apt-cache show", &answer
	if err := s.run(ctx, t, spec); err != nil {
		return err
	}
	sizes := map[string]int64{}
	for _, stanza := range dpkg.Stanzas([]byte(answer.String())) {
		if kib, err := strconv.ParseInt(stanza["Installed-Size"], 10, 64); err == nil {
			sizes[stanza["Package"]+" "+stanza["Version"]] = kib << 10
		}
	}
	sum := int64(0)
	for i := range transaction.Packages {
		p := &transaction.Packages[i]
		if size, ok := sizes[p.Name+" "+p.Version]; ok {
			p.Installed = size
			sum += size
		}
	}
	if t.place == bare {
		transaction.Growth = sum
	}
	return nil
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
