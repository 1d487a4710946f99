package main

import (
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"github.com/imgbuild/imgbuild/internal/repro"
)

func newReference(s *session) *cobra.Command {
	var format, output string
	cmd := &cobra.Command{
		Use:     "reference",
		Short:   "Write the manual pages, or the same as Markdown",
		GroupID: groupOther,
		Example: "  imgbuild reference --output /usr/local/share/man/man1",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "man", "markdown"); err != nil {
				return err
			}
			clock, err := repro.FromEnvironment()
			if err != nil {
				return err
			}
			if err := os.MkdirAll(output, 0o755); err != nil {
				return fmt.Errorf("writing the reference: %w", err)
			}
			root := cmd.Root()
			root.DisableAutoGenTag = true
			if format == "markdown" {
				return doc.GenMarkdownTree(root, output)
			}
			return doc.GenManTree(root, &doc.GenManHeader{Title: "IMGBUILD", Section: "1", Source: "imgbuild " + versionText(),
				Manual: "imgbuild", Date: dateOf(clock.Epoch)}, output)
		},
	}
	cmd.Flags().StringVar(&format, "format", "man", "man or markdown")
	cmd.Flags().StringVar(&output, "output", "", "the directory to write to")
	_ = cmd.MarkFlagRequired("output") // the flag is defined one line above
	return cmd
}

func dateOf(t time.Time) *time.Time { return &t }
