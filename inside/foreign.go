package inside

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/imgbuild/imgbuild/internal/command"
	"github.com/imgbuild/imgbuild/internal/sparse"
)

// RefuseForeign refuses a disk in a format of QEMU's that leads to files outside of its own directory: a disk from a stranger could name any file of this
// machine, and show what is in it. A disk that lies on another one beside it is fine.
func RefuseForeign(ctx context.Context, name, format string) error {
	return refuseForeign(ctx, name, nil, format)
}

// diskInfo is what qemu-img tells of a disk.
type diskInfo struct {
	Size          int64  `json:"virtual-size"`
	Backing       string `json:"backing-filename"`
	BackingFormat string `json:"backing-filename-format"`
	Format        struct {
		Data struct {
			DataFile string `json:"data-file"`
			Extents  []struct {
				Filename string `json:"filename"`
			} `json:"extents"`
		} `json:"data"`
	} `json:"format-specific"`
}

// refuseForeign does it for a file that may be one of the files handed to qemu-img, which has no directory.
func refuseForeign(ctx context.Context, source string, files []*os.File, format string) error {
	const most = 16 // disks that lie on each other
	for range most {
		out, err := command.Output(ctx, command.Cmd{Name: "qemu-img", Args: []string{"info", "--output=json", "-f", format, source}, Files: files})
		if err != nil {
			return err
		}
		var info diskInfo
		if err := json.Unmarshal(out, &info); err != nil {
			return fmt.Errorf("reading what qemu-img says of it: %w", err)
		}
		if info.Size > sparse.MaxSize {
			return fmt.Errorf("the disk has %d bytes, more than the %d allowed", info.Size, int64(sparse.MaxSize))
		}
		for _, e := range info.Format.Data.Extents {
			if e.Filename != source && !beside(source, e.Filename) {
				return fmt.Errorf("the disk lies in a file elsewhere, %q; make a whole one with qemu-img convert", e.Filename)
			}
		}
		if info.Backing+info.Format.Data.DataFile == "" {
			return nil
		}
		other := info.Backing
		if !filepath.IsAbs(other) {
			other = filepath.Join(filepath.Dir(source), other)
		}
		if info.Format.Data.DataFile != "" || info.BackingFormat == "" || !beside(source, other) {
			return fmt.Errorf("the disk is only a part of another one, %q, which is not beside it; make a whole one with qemu-img convert", info.Backing+info.Format.Data.DataFile)
		}
		source, format = other, info.BackingFormat
	}
	return errors.New("the disk lies on too many others")
}

// beside reports whether a file that a disk names lies in the disk's directory. What has a colon may be an address.
func beside(disk, other string) bool {
	if strings.Contains(other, ":") || disk == descriptor {
		return false
	}
	disk, err := filepath.EvalSymlinks(disk)
	if err != nil {
		return false
	}
	other, err = filepath.EvalSymlinks(other)
	return err == nil && filepath.Dir(other) == filepath.Dir(disk)
}
