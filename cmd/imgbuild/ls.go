package main

import (
	"fmt"
	"io"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/inside"
	"github.com/imgbuild/imgbuild/layers"
)

func newLs(s *session) *cobra.Command {
	var flags lookFlags
	var recursive, partitions, asJSON bool
	cmd := &cobra.Command{
		Use:   "ls IMAGE|NAME[:TAG] [PATH]",
		Short: "List the files in an image or a container",
		Long: `List the files in an image of any type, or in a container, without mounting anything. Of a disk it is
the root file system, of an ISO image or an archive the system that it carries; --partition or a # behind
the file's name chooses another partition, or a file in the image that is an image itself, and #. the ISO
image's or archive's own files.`,
		Example: `  imgbuild ls out/web.x86_64-1.0.0.qcow2 /etc
  imgbuild ls out/web.x86_64-1.0.0.raw --partitions
  imgbuild ls 'disk.raw#EFI:/EFI/BOOT'
  imgbuild ls live.iso /etc
  imgbuild ls 'live.iso#.'
  imgbuild ls live.iso --partitions
  imgbuild ls debian:12 /etc`,
		DisableFlagsInUseLine: true,
		GroupID:               groupContainers,
		Args:                  cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			if partitions {
				return s.listPartitions(cmd, flags, args, asJSON)
			}
			if asJSON {
				return &usageError{err: fmt.Errorf("--json goes with --partitions"), command: cmd.CommandPath()}
			}
			return s.look(cmd, &flags, args[0], func(tree *layers.Tree, path string) error {
				if len(args) == 2 {
					path = args[1]
				}
				return listTree(s.stdout, tree, path, recursive)
			})
		},
	}
	flags.register(cmd.Flags())
	cmd.Flags().BoolVarP(&recursive, "recursive", "R", false, "list what is in directories too")
	cmd.Flags().BoolVar(&partitions, "partitions", false, "list the partitions of a disk, or of an ISO image that is one too, instead")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print the partitions as JSON")
	return cmd
}

// listPartitions writes a table of a disk's partitions.
func (s *session) listPartitions(cmd *cobra.Command, flags lookFlags, args []string, asJSON bool) error {
	name, ok := flags.imageFile(args[0])
	if !ok || len(args) > 1 {
		return &usageError{err: fmt.Errorf("--partitions takes one file that is a disk"), command: cmd.CommandPath()}
	}
	opts, err := flags.inside(s)
	if err != nil {
		return err
	}
	list, err := inside.Partitions(cmd.Context(), name, opts)
	if err != nil {
		return err
	}
	if asJSON {
		return s.writeJSON(list)
	}
	var rows [][]string
	for _, p := range list {
		root := ""
		if p.Root {
			root = "root"
		}
		rows = append(rows, []string{strconv.Itoa(p.Number), printable(p.Name), printable(p.Label), strconv.FormatInt(p.Start, 10), size(p.Size), p.Type, p.Holds, root})
	}
	return table(s.stdout, []string{"NUMBER", "NAME", "LABEL", "START", "SIZE", "TYPE", "HOLDS", ""}, rows)
}

// listTree writes the entry at path, or those of the directory there, in the manner of ls -l.
func listTree(w io.Writer, tree *layers.Tree, path string, recursive bool) error {
	resolved, node, err := tree.Resolve(path)
	if err != nil {
		return fmt.Errorf("listing /%s: %w", layers.Clean(path), err)
	}
	if !node.IsDir() {
		return listNode(w, resolved, node)
	}
	return listDir(w, "", node, recursive)
}

func listDir(w io.Writer, prefix string, dir *layers.Node, recursive bool) error {
	for _, name := range dir.Names() {
		child := dir.Child(name)
		if err := listNode(w, prefix+name, child); err != nil {
			return err
		}
		if recursive && child.IsDir() {
			if err := listDir(w, prefix+name+"/", child, true); err != nil {
				return err
			}
		}
	}
	return nil
}

func listNode(w io.Writer, name string, n *layers.Node) error {
	length := strconv.FormatInt(n.Size, 10)
	if n.IsDevice() {
		length = fmt.Sprintf("%d, %d", n.Major, n.Minor)
	}
	text := printable(name)
	if n.IsSymlink() {
		text += " -> " + printable(n.Target)
	}
	_, err := fmt.Fprintf(w, "%s %5d %5d %12s %s %s\n", modeText(n.Mode), n.UID, n.GID, length, date(n.MTime.Time()), text)
	return err
}

// modeText is a mode in the manner of ls -l.
func modeText(mode uint32) string {
	kinds := map[uint32]byte{
		layers.TypeDir: 'd', layers.TypeSymlink: 'l', layers.TypeFIFO: 'p', layers.TypeBlock: 'b', layers.TypeChar: 'c', layers.TypeRegular: '-',
	}
	text := []byte{kinds[mode&layers.TypeMask]}
	for shift := 6; shift >= 0; shift -= 3 {
		for i, letter := range "rwx" {
			if mode>>shift&(4>>i) == 0 {
				letter = '-'
			}
			text = append(text, byte(letter))
		}
	}
	for _, special := range []struct {
		bit         uint32
		at          int
		with, alone byte // with the right to execute, and without
	}{{0o4000, 3, 's', 'S'}, {0o2000, 6, 's', 'S'}, {0o1000, 9, 't', 'T'}} {
		if mode&special.bit == 0 {
			continue
		}
		if text[special.at] = special.with; mode>>(9-special.at)&1 == 0 {
			text[special.at] = special.alone
		}
	}
	return string(text)
}

// printable shows a name of any bytes in one line; a name that is plain stays as it is.
func printable(name string) string {
	quoted := strconv.Quote(name)
	if quoted == `"`+name+`"` {
		return name
	}
	return quoted
}
