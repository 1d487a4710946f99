package dpkg

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/md5"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
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
func WriteChanges(ctx context.Context, w io.Writer, tree *layers.Tree, packages []Package) error {
	out := bufio.NewWriter(w)
	for _, p := range packages {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s|\n", p.Name)
		text, err := changelog(tree, p)
		if err != nil {
			return fmt.Errorf("reading the change log of package %s: %w", p.Name, err)
		}
		if _, err := out.Write(text); err != nil {
			return err
		}
	}
	return out.Flush()
}

// changelog returns the Debian change log, or that of a package that has no other.
func changelog(tree *layers.Tree, p Package) ([]byte, error) {
	for _, name := range []string{"changelog.Debian.gz", "changelog.gz", "changelog.Debian." + p.Architecture + ".gz"} {
		data, err := tree.ReadFile("usr/share/doc/"+p.Name+"/"+name, maxInfo)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		unpack, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			return nil, err
		}
		text, err := io.ReadAll(io.LimitReader(unpack, maxInfo))
		if err != nil {
			return nil, err
		}
		if len(text) > 0 && text[len(text)-1] != '\n' {
			text = append(text, '\n')
		}
		return text, nil
	}
	return nil, nil
}

// check is one file whose content a package tells.
type check struct {
	path     string
	md5      string
	conffile bool
}

// WriteVerified compares the tree's files with the check sums that the packages brought, and writes a line for each that differs or is
// missing, in rpm's form as "dpkg --verify" does: "??5??????   /path", with a c for configuration files, or "missing     /path".
func WriteVerified(ctx context.Context, w io.Writer, tree *layers.Tree, packages []Package) error {
	checks, err := findChecks(tree, packages)
	if err != nil {
		return err
	}
	sums, err := sumFiles(ctx, tree, checks)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(w)
	for _, c := range checks {
		kind := " "
		if c.conffile {
			kind = "c"
		}
		sum, ok := sums[c.path]
		switch {
		case !ok:
			fmt.Fprintf(out, "missing   %s /%s\n", kind, c.path)
		case sum != c.md5:
			fmt.Fprintf(out, "??5?????? %s /%s\n", kind, c.path)
		}
	}
	return out.Flush()
}

// findChecks returns the files to check, package by package.
func findChecks(tree *layers.Tree, packages []Package) ([]check, error) {
	var checks []check
	for _, p := range packages {
		var own []check
		for _, name := range []string{infoDir + "/" + p.Name + ":" + p.Architecture + ".md5sums", infoDir + "/" + p.Name + ".md5sums", statusDir + "/" + p.Name + ".md5sums"} {
			data, err := tree.ReadFile(name, maxInfo)
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("reading the check sums of package %s: %w", p.Name, err)
			}
			for line := range strings.Lines(string(data)) {
				if sum, file, ok := strings.Cut(strings.TrimRight(line, "\n"), "  "); ok && len(sum) == 2*md5.Size {
					own = append(own, check{path: layers.Clean(file), md5: sum})
				}
			}
			break
		}
		for _, c := range p.Conffiles {
			if !c.Remove && len(c.MD5) == 2*md5.Size {
				own = append(own, check{path: c.Path, md5: c.MD5, conffile: true})
			}
		}
		slices.SortStableFunc(own, func(a, b check) int { return strings.Compare(a.path, b.path) })
		checks = append(checks, own...)
	}
	return checks, nil
}

// sumFiles returns the MD5 of every file to check that is there. Each content is read once, in the cheapest order.
func sumFiles(ctx context.Context, tree *layers.Tree, checks []check) (map[string]string, error) {
	names := map[*layers.Node][]string{}
	var nodes []*layers.Node
	for _, c := range checks {
		_, node, err := tree.Resolve(c.path)
		if err != nil || !node.IsRegular() {
			continue
		}
		if _, ok := names[node]; !ok {
			nodes = append(nodes, node)
		}
		names[node] = append(names[node], c.path)
	}
	sums := map[string]string{}
	add := func(node *layers.Node, content io.Reader) error {
		h := md5.New()
		if _, err := io.Copy(h, content); err != nil {
			return err
		}
		for _, name := range names[node] {
			sums[name] = hex.EncodeToString(h.Sum(nil))
		}
		return nil
	}
	var dense []*layers.Node
	for _, node := range nodes {
		if node.Data == nil && node.Content != nil {
			dense = append(dense, node)
			continue
		}
		if err := addSparse(node, add); err != nil {
			return nil, fmt.Errorf("reading /%s: %w", names[node][0], err)
		}
	}
	if err := layers.EachContent(ctx, dense, add); err != nil {
		return nil, err
	}
	return sums, nil
}

// addSparse reads an empty file, or one with holes.
func addSparse(node *layers.Node, add func(*layers.Node, io.Reader) error) error {
	content, err := node.Open()
	if err != nil {
		return err
	}
	defer content.Close()
	return add(node, content)
}
