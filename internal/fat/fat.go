// Package fat makes FAT file systems in ordinary files, with mkfs.vfat and mtools and without mounting anything.
package fat

import (
	"context"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/imgbuild/imgbuild/internal/command"
)

// Spec says what file system to make.
type Spec struct {
	Size       int64     // bytes
	Bits       int       // 12, 16 or 32; 0 lets mkfs.vfat choose by the size
	Label      string    // up to 11 characters
	ID         uint32    // volume ID
	SectorSize int       // 0: 512
	Time       time.Time // of every entry
}

// UUID returns the volume ID as Linux names it in /dev/disk/by-uuid: XXXX-XXXX.
func (s Spec) UUID() string { return fmt.Sprintf("%04X-%04X", s.ID>>16, s.ID&0xffff) }

// Programs returns the external programs that [Write] runs.
func Programs() []string { return []string{"mkfs.vfat", "mmd", "mcopy"} }

// Write makes the file system in a new file at name and copies every file and directory of files into it; other types are an error.
// Scratch is an existing directory for temporary files. The same files give the same bytes.
func Write(ctx context.Context, name string, spec Spec, files fs.FS, scratch string) error {
	if err := format(ctx, name, spec); err != nil {
		return err
	}
	dirs, byDir, err := list(files)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp(scratch, "fat-")
	if err != nil {
		return fmt.Errorf("making a FAT file system: %w", err)
	}
	defer os.RemoveAll(temp)
	tools := mtools{image: name, env: []string{
		"MTOOLSRC=/dev/null", "MTOOLS_SKIP_CHECK=1", "TZ=UTC", "SOURCE_DATE_EPOCH=" + strconv.FormatInt(spec.Time.Unix(), 10),
	}}
	if len(dirs) > 0 {
		if err := tools.run(ctx, "mmd", dirs, ""); err != nil {
			return err
		}
	}
	for _, dir := range append([]string{"."}, dirs...) {
		if len(byDir[dir]) == 0 {
			continue
		}
		var copies []string
		for _, file := range byDir[dir] {
			copied := filepath.Join(temp, filepath.FromSlash(file))
			if err := copyOut(files, file, copied, spec.Time); err != nil {
				return err
			}
			copies = append(copies, copied)
		}
		if err := tools.run(ctx, "mcopy", copies, dir); err != nil {
			return err
		}
	}
	return nil
}

func format(ctx context.Context, name string, spec Spec) error {
	f, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("making a FAT file system: %w", err)
	}
	err = f.Truncate(spec.Size)
	if closeErr := f.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("making a FAT file system: %w", err)
	}
	args := []string{"--invariant", "-i", fmt.Sprintf("%08x", spec.ID)}
	if spec.Label != "" {
		args = append(args, "-n", spec.Label)
	}
	if spec.Bits != 0 {
		args = append(args, "-F", strconv.Itoa(spec.Bits))
	}
	if spec.SectorSize != 0 {
		args = append(args, "-S", strconv.Itoa(spec.SectorSize))
	}
	if spec.SectorSize > 512 {
		args = append(args, "-s", "1") // the default of four sectors leaves a small file system too few clusters for FAT16
	}
	return command.Run(ctx, command.Cmd{Name: "mkfs.vfat", Args: append(args, name)})
}

// list returns the directories, parents first, and the files of each.
func list(files fs.FS) (dirs []string, byDir map[string][]string, err error) {
	byDir = map[string][]string{}
	err = fs.WalkDir(files, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case name == ".":
		case d.IsDir():
			dirs = append(dirs, name)
		case d.Type().IsRegular():
			byDir[path.Dir(name)] = append(byDir[path.Dir(name)], name)
		default:
			return fmt.Errorf("putting %s on a FAT file system: it is neither a file nor a directory", name)
		}
		return nil
	})
	if err != nil {
		return nil, nil, fmt.Errorf("listing files for a FAT file system: %w", err)
	}
	return dirs, byDir, nil
}

func copyOut(files fs.FS, from, to string, when time.Time) (err error) {
	if err := os.MkdirAll(filepath.Dir(to), 0o700); err != nil {
		return err
	}
	in, err := files.Open(from)
	if err != nil {
		return fmt.Errorf("copying %s to a FAT file system: %w", from, err)
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	if closeErr := out.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return fmt.Errorf("copying %s to a FAT file system: %w", from, err)
	}
	return os.Chtimes(to, when, when)
}

// mtools runs the tools of that name on an image.
type mtools struct {
	image string
	env   []string
}

// run gives the names to a tool: mmd makes them, mcopy copies them into the directory target.
func (m mtools) run(ctx context.Context, tool string, names []string, target string) error {
	args := []string{"-i", m.image}
	if tool == "mcopy" {
		args = append(args, "-m")
	}
	const most = 500 // names on one command line
	for chunk := range slices.Chunk(names, most) {
		all := slices.Clone(args)
		for _, name := range chunk {
			if tool == "mmd" {
				name = "::" + name
			}
			all = append(all, name)
		}
		if tool == "mcopy" {
			all = append(all, "::"+strings.TrimPrefix(target, "."))
		}
		if err := command.Run(ctx, command.Cmd{Name: tool, Args: all, Env: m.env}); err != nil {
			return err
		}
	}
	return nil
}
