package main

import (
	"context"
	"sync"
	"time"

	"go.uber.org/fx"
)

// background does something as long as the program lives.
func background(lc fx.Lifecycle, do func(context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	lc.Append(fx.StartStopHook(func() { running.Go(func() { do(ctx) }) }, func() {
		cancel()
		running.Wait()
	}))
}

// again does something at once and after each pause, until it is done or ctx ends.
func again(ctx context.Context, pause time.Duration, do func() (done bool)) {
	for ctx.Err() == nil && !do() {
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

func forEver(do func()) func() bool {
	return func() bool {
		do()
		return false
	}
}
