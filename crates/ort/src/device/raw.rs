//! All that is unsafe in this crate: views into device memory, and runs that read and write them in place.
//!
//! The safe binding copies a borrowed input before it binds it (`IoBinding::bind_input`), and has no outputs in a part of an
//! allocation; both are what keeps the cached keys and values where they are.
#![expect(
    unsafe_code,
    reason = "pointers into device memory, and a run of the C interface with outputs in them"
)]

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr;

use ort::AsPointer;
use ort::memory::Allocator;
use ort::session::Session;
use ort::sys::OrtValue;
use ort::value::{Shape, Tensor, TensorRefMut, Value, ValueTypeMarker};

/// Memory of a provider for numbers in `f32`; freed when it goes. What it holds at first is undefined.
///
/// Nothing here dereferences it: the runtime alone reads and writes it, between the start and the end of a run.
#[derive(Debug)]
pub(crate) struct Block {
    tensor: Tensor<f32>,
    len: usize,
}

/// A tensor in a part of a [`Block`].
#[derive(Debug)]
pub(crate) struct View<'a>(TensorRefMut<'a, f32>);

impl Block {
    /// A block for `len` numbers.
    ///
    /// # Errors
    /// The device has no room.
    pub(crate) fn new(allocator: &Allocator, len: usize) -> ort::Result<Self> {
        Ok(Self { tensor: Tensor::new(allocator, [len])?, len })
    }

    /// Numbers.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// The tensor of this shape from number `offset` on.
    ///
    /// # Errors
    /// It does not lie within the block.
    pub(crate) fn view(&self, offset: usize, shape: &[usize]) -> ort::Result<View<'_>> {
        let len = shape.iter().try_fold(1_usize, |len, &size| len.checked_mul(size));
        let end = len.and_then(|len| len.checked_add(offset)).filter(|&end| end <= self.len);
        if end.is_none() {
            let message = format!("{shape:?} from {offset} on does not lie within {} numbers", self.len);
            return Err(ort::Error::new(message));
        }
        let shape: Shape = shape.iter().map(|&size| size as i64).collect();
        let start = self.tensor.data_ptr().cast_mut().cast::<f32>();
        // SAFETY: `offset` is within the allocation that starts at `start`, as was just seen.
        let data = unsafe { start.add(offset) };
        // SAFETY: the memory is that which the tensor's own description names, all of the view lies within it, and the
        // lifetime of the view keeps the block from being freed.
        let tensor =
            unsafe { TensorRefMut::from_raw(self.tensor.memory_info().to_owned(), data.cast(), shape) }?;
        Ok(View(tensor))
    }
}

impl View<'_> {
    /// The tensor as an input.
    pub(crate) fn tensor(&self) -> &Tensor<f32> {
        &self.0
    }
}

/// Inputs and outputs of one run, by name.
#[derive(Debug, Default)]
pub(crate) struct Run<'a> {
    input_names: Vec<*const c_char>,
    inputs: Vec<*const OrtValue>,
    output_names: Vec<*const c_char>,
    outputs: Vec<*mut OrtValue>,
    values: PhantomData<&'a OrtValue>,
}

impl<'a> Run<'a> {
    /// Feeds a value; one that is where the session wants it is read in place.
    pub(crate) fn input<T: ValueTypeMarker + ?Sized>(&mut self, name: &'a CStr, value: &'a Value<T>) {
        self.input_names.push(name.as_ptr());
        self.inputs.push(value.ptr());
    }

    /// Has an output written into a view. It may be that of an input, for a node that works in place.
    pub(crate) fn output(&mut self, name: &'a CStr, view: &'a View<'_>) {
        self.output_names.push(name.as_ptr());
        self.outputs.push(view.0.ptr().cast_mut());
    }

    /// Runs the session. At the end its stream is idle, so that what was written can be read by another session.
    ///
    /// # Errors
    /// What the runtime says, a shape that differs from a view's among it.
    pub(crate) fn run(mut self, session: &mut Session) -> ort::Result<()> {
        // SAFETY: names and values are alive (`'a`), as many of each as is said; the session is borrowed alone, as a run
        // needs it. Outputs are views of blocks, which nothing on this side of the runtime refers to by reference. No
        // options are the default ones, with which a run ends by waiting for its stream.
        let status = unsafe {
            (ort::api().Run)(
                session.ptr().cast_mut(),
                ptr::null(),
                self.input_names.as_ptr(),
                self.inputs.as_ptr(),
                self.inputs.len(),
                self.output_names.as_ptr(),
                self.output_names.len(),
                self.outputs.as_mut_ptr(),
            )
        };
        // SAFETY: the status is the run's own, and given up to the error.
        unsafe { ort::Error::result_from_status(status) }
    }
}
