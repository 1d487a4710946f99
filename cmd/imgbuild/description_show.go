package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/atomicfile"
)

func newDescriptionShow(s *session, flags *selectionFlags) *cobra.Command {
	var asJSON, asYAML, asXML bool
	cmd := &cobra.Command{
		Use:   "show [DIR]",
		Short: "Show what a description means for some profiles and a type",
		Long: `Show the image that a description describes for the chosen profiles, type and architecture: every setting that counts,
defaults filled in. Passwords are hidden. --xml shows the description that is left when all that does not count is taken
away; it holds the passwords of accounts, and not those of repositories.`,
		Example: `  imgbuild description show --profile live --type iso container-to-vm
  imgbuild description show --json | jq -r '.packages.system.packages[]'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if asJSON && asYAML || asXML && (asJSON || asYAML) {
				return &usageError{err: errors.New("--json, --yaml and --xml exclude each other"), command: cmd.CommandPath()}
			}
			img, err := flags.resolve(s, args, cmd.CommandPath())
			if err != nil {
				return err
			}
			var data []byte
			switch {
			case asXML:
				data = img.Resolved().XML()
			case asJSON:
				data, err = img.View(description.FormatJSON)
			case asYAML:
				data, err = img.View(description.FormatYAML)
			default:
				data, err = img.View("")
			}
			if err != nil {
				return err
			}
			_, err = s.stdout.Write(data)
			return err
		},
	}
	f := cmd.Flags()
	f.BoolVar(&asJSON, "json", false, "print JSON")
	f.BoolVar(&asYAML, "yaml", false, "print YAML")
	f.BoolVar(&asXML, "xml", false, "print a description that holds only what counts")
	return cmd
}

func newDescriptionUpgrade(s *session, flags *selectionFlags) *cobra.Command {
	var format, output string
	var inPlace bool
	cmd := &cobra.Command{
		Use:   "upgrade [DIR]",
		Short: "Write a description in the newest version of its schema, or in another format",
		Long: `Bring a description up to date: schemas from 5.0 on become 7.6, which KIWI 9 reads, and those from 8.0 on 8.5. The
result is one file, with what was included from others. Comments stay in XML and YAML.`,
		Example: `  imgbuild description upgrade --in-place container-to-vm
  imgbuild description upgrade --format yaml --output image.yaml container-to-vm`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if inPlace && (output != "" || cmd.Flags().Changed("format")) {
				return &usageError{err: errors.New("--in-place keeps the file's name and format; leave out --output and --format"), command: cmd.CommandPath()}
			}
			doc, err := flags.load(args, cmd.CommandPath())
			if err != nil {
				return err
			}
			for _, w := range doc.Warnings {
				s.log.Warn(w.Error())
			}
			data, err := encodeAs(doc, format, cmd.CommandPath())
			switch {
			case err != nil:
				return err
			case inPlace && doc.Written == "2006":
				return fmt.Errorf("upgrading %s in place: it is of the format of 2006; write the result with --output config.xml", doc.File)
			case inPlace:
				if len(doc.Included) > 0 {
					s.log.Warn("what was included is part of "+doc.File+" now", "files", strings.Join(doc.Included, " "))
				}
				return replaceFile(filepath.Join(doc.Dir, doc.File), data)
			case output != "":
				return replaceFile(output, data)
			}
			_, err = s.stdout.Write(data)
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&format, "format", "", "xml, yaml, json or toml (default: that of the description)")
	f.StringVar(&output, "output", "", "the `file` to write (default: standard output)")
	f.BoolVar(&inPlace, "in-place", false, "replace the description's file")
	return cmd
}

// encodeAs writes a description in a format; an empty one is its own.
func encodeAs(doc *description.Document, name, command string) ([]byte, error) {
	if name == "" {
		return doc.Encode(doc.Format)
	}
	format, err := description.ParseFormat(name)
	if err != nil {
		return nil, &usageError{err: fmt.Errorf("--format: %w", err), command: command}
	}
	return doc.Encode(format)
}

// replaceFile writes a file whole or not at all. One that is there keeps its mode; a link stays and what it points to is replaced.
func replaceFile(name string, data []byte) error {
	mode := os.FileMode(0o644)
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target
	}
	if st, err := os.Stat(name); err == nil {
		if mode = st.Mode().Perm(); !st.Mode().IsRegular() {
			return fmt.Errorf("writing %s: it is not a regular file", name)
		}
	}
	return atomicfile.Write(name, mode, func(f *os.File) error {
		_, err := f.Write(data)
		return err
	})
}
