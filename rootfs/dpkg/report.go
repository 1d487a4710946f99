package dpkg

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/imgbuild/imgbuild/layers"
)

// WritePackages writes one line a package: name|epoch|version|release|arch|disturl|license, with None for what dpkg does not know.
// As in KIWI's .packages, the epoch is part of the version.
func WritePackages(w io.Writer, packages []Package) error {
	out := bufio.NewWriter(w)
	for _, p := range packages {
		fmt.Fprintf(out, "%s|None|%s|None|%s|None|None\n", p.Name, p.Version, p.Architecture)
	}
	return out.Flush()
}

// WriteChanges writes for each package its name, a bar, and its change log, which is empty for a package that has none in the tree.
// The survey must be finished.
func (s *Survey) WriteChanges(ctx context.Context, w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, p := range s.packages {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s|\n", p.Name)
		if err := s.writeChangelog(out, p); err != nil {
			return fmt.Errorf("reading the change log of package %s: %w", p.Name, err)
		}
	}
	return out.Flush()
}

// changelogNames are where a package has its Debian change log, or one of another kind.
func changelogNames(p Package) []string {
	dir := "usr/share/doc/" + p.Name + "/changelog"
	return []string{dir + ".Debian.gz", dir + ".gz", dir + ".Debian." + p.Architecture + ".gz"}
}

// writeChangelog writes a package's change log with a newline at its end.
func (s *Survey) writeChangelog(w io.Writer, p Package) error {
	_, node := firstFile(s.tree, changelogNames(p))
	if node == nil || node.Size == 0 {
		return nil
	}
	unpack, err := gzip.NewReader(bytes.NewReader(s.text[node]))
	if err != nil {
		return err
	}
	text, err := io.ReadAll(io.LimitReader(unpack, maxInfo))
	if err != nil {
		return err
	}
	if len(text) > 0 && text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	_, err = w.Write(text)
	return err
}

// check is one file whose content a package tells.
type check struct {
	path     string
	md5      string
	conffile bool
}

// WriteVerified compares the tree's files with the check sums that the packages brought, and writes a line for each that differs or is
// missing, in rpm's form as "dpkg --verify" does: "??5??????   /path", with a c for configuration files, or "missing     /path".
// The survey must be finished.
func (s *Survey) WriteVerified(w io.Writer) error {
	out := bufio.NewWriter(w)
	for _, c := range s.findChecks() {
		kind := " "
		if c.conffile {
			kind = "c"
		}
		_, node, err := s.tree.Resolve(c.path)
		if err != nil || !node.IsRegular() {
			fmt.Fprintf(out, "missing   %s /%s\n", kind, c.path)
			continue
		}
		if sum := s.sums[node]; hex.EncodeToString(sum[:]) != c.md5 {
			fmt.Fprintf(out, "??5?????? %s /%s\n", kind, c.path)
		}
	}
	return out.Flush()
}

// sumNames are where the check sums of a package's files lie.
func sumNames(p Package) []string {
	return []string{infoDir + "/" + p.Name + ":" + p.Architecture + ".md5sums", infoDir + "/" + p.Name + ".md5sums", statusDir + "/" + p.Name + ".md5sums"}
}

// findChecks returns the files to check, package by package.
func (s *Survey) findChecks() []check {
	var checks []check
	for _, p := range s.packages {
		var own []check
		_, node := firstFile(s.tree, sumNames(p))
		for line := range strings.Lines(string(s.text[node])) {
			if sum, file, ok := strings.Cut(strings.TrimRight(line, "\n"), "  "); ok && len(sum) == 2*md5.Size {
				own = append(own, check{path: layers.Clean(file), md5: sum})
			}
		}
		for _, c := range p.Conffiles {
			if !c.Remove && len(c.MD5) == 2*md5.Size {
				own = append(own, check{path: c.Path, md5: c.MD5, conffile: true})
			}
		}
		slices.SortStableFunc(own, func(a, b check) int { return strings.Compare(a.path, b.path) })
		checks = append(checks, own...)
	}
	return checks
}
