package apk

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/imgbuild/imgbuild/description"
)

// Delete removes packages by force: nothing else, whatever depends on them. apk itself never breaks a dependency: what it keeps for one is removed here, from the
// database and with the files that no other package has. The scripts that such a package has for its removal don't run.
func (s *Session) Delete(ctx context.Context, list []description.Package) error {
	p, tree, err := s.find(ctx)
	if err != nil {
		return err
	}
	names := present(tree, list)
	if err := s.remove(ctx, p, "deleting packages", names, list); err != nil {
		return err
	}
	if tree, err = s.Tree(ctx); err != nil {
		return err
	}
	kept := present(tree, list)
	if len(kept) == 0 {
		return nil
	}
	database, _ := findDatabase(tree)
	dir, err := s.Unpacked(ctx)
	if err != nil {
		return err
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("deleting packages: %w", err)
	}
	defer root.Close()
	if err := force(root, database, kept); err != nil {
		return fmt.Errorf("deleting packages: %w", err)
	}
	return nil
}

// force takes packages out of the database and removes their files. No symbolic link leads out of root.
func force(root *os.Root, database string, names []string) error {
	file, err := root.Open(database)
	if err != nil {
		return err
	}
	data, err := io.ReadAll(io.LimitReader(file, maxIndex))
	info, errInfo := file.Stat()
	if err := errors.Join(err, errInfo, file.Close()); err != nil {
		return err
	}
	var kept [][]byte
	others := map[string]bool{}
	var gone []string
	for paragraph := range bytes.SplitSeq(data, []byte("\n\n")) {
		for _, r := range records(paragraph) {
			entries := contents(r)
			if slices.Contains(names, r.get("P")) {
				gone = append(gone, entries...)
				continue
			}
			kept = append(kept, bytes.Trim(paragraph, "\n"))
			for _, name := range entries {
				others[name] = true
			}
		}
	}
	// What is in a directory goes before the directory.
	slices.SortFunc(gone, func(a, b string) int { return strings.Compare(b, a) })
	for _, name := range gone {
		if others[name] {
			continue
		}
		err := root.Remove(name)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.ENOTEMPTY) && !errors.Is(err, syscall.EEXIST) {
			return err
		}
	}
	text := bytes.Join(kept, []byte("\n\n"))
	if len(text) > 0 {
		text = append(text, "\n\n"...)
	}
	fresh := database + ".new"
	if err := root.WriteFile(fresh, text, info.Mode().Perm()); err != nil {
		return err
	}
	return root.Rename(fresh, database)
}

// contents are the files and directories of an installed package: F is a directory, and R a file in the one before it.
func contents(r record) []string {
	var list []string
	dir := ""
	for _, field := range r {
		switch field[0] {
		case "F":
			dir = field[1]
			if dir != "" {
				list = append(list, dir)
			}
		case "R":
			list = append(list, path.Join(dir, field[1]))
		}
	}
	return list
}
